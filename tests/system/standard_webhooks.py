"""Asks the reference library of Standard Webhooks about each delivery on stdin; one answer a line."""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    asked = json.loads(line)
    try:
        told = Webhook(asked["secret"]).verify(asked["body"], asked["headers"])
        answer = {"verified": told}
    except WebhookVerificationError as refused:
        answer = {"refused": str(refused)}
    print(json.dumps(answer), flush=True)
