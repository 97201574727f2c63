# The people, and what each of them may do. They are told apart by who took the role: CloudTrail has it with every call.
#
#   analysts    read the models as Delta tables
#   developers  read all of the lake, logs and numbers; where it is so set, they send events
#   operators   do that, write to the lake (tokens, compaction, recovery), run commands of lakebed as tasks, start the
#               server again, stop and start what feeds the function, and put dead letters back
#
# Nobody here changes what Terraform made, nor roles. Policies of lakebed's do not hold for whoever reads the bucket itself:
# those who may see some of it only get no role, but a user of `lakebed user add`.

locals {
  given = {
    analysts   = { lake = var.policies.read_tables }
    developers = merge({ lake = var.policies.read, look = local.look }, var.developers_send ? { send = var.policies.send } : {})
    operators  = { lake = var.policies.write, look = local.look, send = var.policies.send, operate = local.operate }
  }
  taken = { for role, people in var.people : role => people if length(people) > 0 }
  pairs = merge([for role, _ in local.taken : { for kind, policy in local.given[role] : "${role} ${kind}" => { role = role, kind = kind, policy = policy } }]...)
}

resource "aws_iam_role" "person" {
  for_each = local.taken
  name     = "${var.name}-${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [merge(
      { Effect = "Allow", Action = "sts:AssumeRole", Principal = { AWS = each.value } },
      var.require_mfa ? { Condition = { Bool = { "aws:MultiFactorAuthPresent" = "true" } } } : {},
    )]
  })
}

resource "aws_iam_role_policy" "person" {
  for_each = local.pairs
  name     = each.value.kind
  role     = aws_iam_role.person[each.value.role].id
  policy   = each.value.policy
}
