# What every environment has: where its state is, what it is made of, and that its values stand beside its terragrunt.hcl.

locals {
  # An environment is its directory.
  environment = basename(get_original_terragrunt_dir())
  region      = get_env("AWS_REGION")
}

# Terragrunt makes the bucket if it is not there. Nobody but who applies needs it: a state tells everything but the secrets.
remote_state {
  backend = "s3"
  config = {
    bucket       = get_env("LAKEBED_STATE_BUCKET")
    key          = "lakebed/${local.environment}.tfstate"
    region       = local.region
    encrypt      = true
    use_lockfile = true
  }
  generate = {
    path      = "backend.tf"
    if_exists = "overwrite_terragrunt"
  }
}

terraform {
  source = "${dirname(find_in_parent_folders("root.hcl"))}/../modules//stack"

  # A file that Terraform reads by itself, too: `check` applies it without Terragrunt.
  extra_arguments "values" {
    commands           = get_terraform_commands_that_need_vars()
    required_var_files = ["${get_original_terragrunt_dir()}/values.tfvars"]
  }
}
