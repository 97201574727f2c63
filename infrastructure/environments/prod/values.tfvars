# What holds the lake that counts. function_zip, image and certificate_arn come as TF_VAR_…, and so do people, client_cidrs
# and alarm_emails: they are of whoever applies.

name    = "lakebed-prod"
project = "lakebed"

cidr  = "10.24.0.0/16"
zones = 3

server   = { cpu = 4096, memory_mb = 16384, disk_gb = 100 }
database = { instance_class = "db.m7g.large", storage_gb = { first = 100, most = 500 }, multi_az = true }

log_days = 90
