"""A mail server that prints its port, then each mail as a line of JSON, as Python's own mail parser understands it."""

import asyncio
import email
import email.policy
import json

from aiosmtpd.smtp import SMTP


class Printer:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        mail_as_json = {
            "sender": envelope.mail_from,
            "receivers": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "type": mail.get_content_type(),
            "parts": [[part.get_content_type(), part.get_content()] for part in mail.iter_parts()],
            "defects": [str(defect) for part in mail.walk() for defect in part.defects],
        }
        print(json.dumps(mail_as_json), flush=True)
        return "250 kept"


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Printer()), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
