"""A real SMTP server for tests/system_smtp.rs: aiosmtpd on a free loopback port.

Arguments: CERT KEY MODE USER PASSWORD; MODE is `required` (STARTTLS and AUTH are required), `implicit` (TLS from the first
byte, AUTH is required), `stripped` (neither is offered) or `silent` (as `required`, but the first mail is never answered).
`gone@` is always refused, `late@` the first time. Prints one JSON line with the port, then one per thing that happens; ends when its standard input closes.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def tell(**event):
    print(json.dumps(event), flush=True)


def encrypted(server):
    return server.transport.get_extra_info("ssl_object") is not None


def read(content):
    """A mail as another program reads it, with whatever is wrong with it."""
    mail = email.message_from_bytes(content, policy=email.policy.default)
    parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
    defects = [str(defect) for part in mail.walk() for defect in part.defects]
    defects += [str(defect) for value in mail.values() for defect in value.defects]
    headers = {name.lower(): str(value) for name, value in mail.items()}
    return dict(headers=headers, count=len(mail.items()), text=parts.get("text/plain"), html=parts.get("text/html"),
                kinds=list(parts), defects=defects)


class Handler:
    def __init__(self, silent):
        self.silent = silent
        self.late = set()

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        tell(event="ehlo", encrypted=encrypted(server))
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        tell(event="mail", encrypted=encrypted(server))
        envelope.mail_from = address
        return "250 2.1.0 sender fine"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 5.1.1 no such user here"
        if address.startswith("late@") and address not in self.late:
            self.late.add(address)
            return "450 4.2.0 greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 recipient fine"

    async def handle_DATA(self, server, session, envelope):
        content = envelope.content.decode("ascii")
        login = session.auth_data.login.decode() if session.auth_data else None
        tell(event="data", encrypted=encrypted(server), login=login, sender=envelope.mail_from,
             to=envelope.rcpt_tos, content=content, read=read(envelope.content))
        if self.silent:
            self.silent = False
            await asyncio.Event().wait()
        return "250 2.0.0 queued"


async def main(cert, key, mode, user, password):
    def check(server, session, envelope, mechanism, data):
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (user.encode(), password.encode())
        tell(event="auth", encrypted=encrypted(server), right=right)
        return AuthResult(success=right, handled=False, auth_data=data)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    login = dict(auth_required=True, authenticator=check)
    options = {
        "required": dict(tls_context=context, require_starttls=True, **login),
        "silent": dict(tls_context=context, require_starttls=True, **login),
        "implicit": dict(auth_require_tls=False, **login),
        "stripped": {},
    }[mode]
    handler = Handler(silent=mode == "silent")
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname="localhost", **options), "127.0.0.1", 0,
        ssl=context if mode == "implicit" else None)
    tell(event="port", port=server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main(*sys.argv[1:]))
