"""An S3-like store on loopback, by moto: one bucket, `records`, and one user who may write to it.

It says in a JSON object on one line where it listens and what the user's keys are; from then on signatures
are checked, by moto with botocore's code. For each line of its input it says what the bucket holds, and it
ends with its input. Arguments: files of a certificate and its key, for TLS.
"""

import hashlib
import json
import sys
import threading

import boto3
from moto import settings
from moto.core.responses import ActionAuthenticatorMixin
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "records"
ALLOW = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}

tls = tuple(sys.argv[1:3]) or None
application = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, application, threaded=True, ssl_context=tls)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"


def client(service, key="nobody", secret="nothing"):
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        verify=tls[0] if tls else None,
    )


client("s3").create_bucket(Bucket=BUCKET)
iam = client("iam")
iam.create_user(UserName="ledger")
iam.put_user_policy(UserName="ledger", PolicyName="all", PolicyDocument=json.dumps(ALLOW))
key = iam.create_access_key(UserName="ledger")["AccessKey"]
settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
ActionAuthenticatorMixin.request_count = 0
print(json.dumps({"url": url, "credentials": f"{key['AccessKeyId']}:{key['SecretAccessKey']}"}), flush=True)

s3 = client("s3", key["AccessKeyId"], key["SecretAccessKey"])
for _ in sys.stdin:
    objects = {}
    for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        body = s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read()
        # The tag of what came in parts ends in their number.
        parts = item["ETag"].strip('"').partition("-")[2]
        objects[item["Key"]] = {
            "bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "parts": int(parts or 1),
        }
    print(json.dumps(objects), flush=True)
