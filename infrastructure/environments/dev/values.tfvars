# Small, and thrown away without a question. function_zip, image and certificate_arn come as TF_VAR_…: they are of whoever
# applies.

name       = "lakebed-dev"
project    = "lakebed"
disposable = true

server   = { cpu = 1024, memory_mb = 4096, disk_gb = 21 }
database = { instance_class = "db.t4g.micro", backup_days = 1 }

developers_send = true
log_days        = 7
