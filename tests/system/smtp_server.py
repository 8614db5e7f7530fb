"""A real SMTP server for tests/system_smtp.rs: aiosmtpd on a free loopback port.

Arguments: CERT KEY MODE USER PASSWORD; MODE is `required` (STARTTLS and AUTH are required) or `stripped` (neither is
offered). Prints one JSON line with the port, then one per thing that happens; ends when its standard input closes.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def tell(**event):
    print(json.dumps(event), flush=True)


class Handler:
    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        tell(event="ehlo", encrypted=session.ssl is not None)
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        tell(event="mail", encrypted=session.ssl is not None)
        envelope.mail_from = address
        return "250 2.1.0 sender fine"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 recipient fine"

    async def handle_DATA(self, server, session, envelope):
        content = envelope.content.decode("ascii")
        login = session.auth_data.login.decode() if session.auth_data else None
        tell(event="data", encrypted=session.ssl is not None, login=login, sender=envelope.mail_from,
             to=envelope.rcpt_tos, content=content)
        return "250 2.0.0 queued"


async def main(cert, key, mode, user, password):
    def check(server, session, envelope, mechanism, data):
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (user.encode(), password.encode())
        tell(event="auth", encrypted=session.ssl is not None, right=right)
        return AuthResult(success=right, handled=False, auth_data=data)

    options = {}
    if mode == "required":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)
        options = dict(tls_context=context, require_starttls=True, auth_required=True, authenticator=check)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Handler(), hostname="localhost", **options), "127.0.0.1", 0)
    tell(event="port", port=server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main(*sys.argv[1:]))
