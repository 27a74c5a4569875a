"""How an event reaches a target: a signed POST, or an e-mail."""

import http.client
import json
import smtplib
import ssl
import urllib.error
import urllib.request
from email.message import EmailMessage
from typing import IO, Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined, TemplateError

from metering.bills.wording import shown
from metering.notify.config import Email, NotifyConfig, Secrets, Smtp, Webhook
from metering.notify.outbox import Delivery
from metering.notify.signature import headers

_SECONDS = 15.0
_GONE = 410  # the specification: this address wants nothing more


class NotTaken(Exception):
    """The target did not take it; `final`: it never will."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """A redirect is an answer like another: what is signed goes where it was told to go."""


_OPENER = urllib.request.build_opener(_Stay)


class Channels:
    """Sends deliveries by the configuration."""

    def __init__(self, config: NotifyConfig, secrets: Secrets) -> None:
        self._config = config
        self._secrets = secrets
        self._targets = {target.id: target for target in config.targets()}
        folders = [FileSystemLoader(config.templates)] if config.templates else []
        self._texts = Environment(
            loader=ChoiceLoader([*folders, PackageLoader("metering.notify")]),
            undefined=StrictUndefined,
            autoescape=False,  # plain text
            finalize=lambda value: shown(value) if isinstance(value, str) else value,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def send(self, one: Delivery, now: int) -> None:
        """Deliver; NotTaken says why not."""
        target = self._targets.get(one.target)
        if target is None:
            raise NotTaken("this target is no longer in the configuration", final=True)
        if isinstance(target, Webhook):
            self._post(target, one, now)
        else:
            self._mail(target, one)

    def _post(self, target: Webhook, one: Delivery, now: int) -> None:
        body = one.body.encode()
        signed = headers(self._secrets.signing[target.id], one.event, now, body)
        request = urllib.request.Request(target.url, data=body, method="POST")
        for name, value in {**signed, "content-type": "application/json"}.items():
            request.add_header(name, value)
        try:
            with _OPENER.open(request, timeout=_SECONDS) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            raise NotTaken(f"it answered {error.code}", final=error.code == _GONE) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotTaken(f"it cannot be reached: {error}") from error

    def _mail(self, target: Email, one: Delivery) -> None:
        assert self._config.smtp is not None, "the configuration was checked"
        message = self.message(target, one, self._config.smtp)
        try:
            _hand_over(self._config.smtp, self._secrets.password, message)
        except (OSError, smtplib.SMTPException) as error:
            raise NotTaken(f"the mail server did not take it: {error}") from error

    def message(self, target: Email, one: Delivery, smtp: Smtp) -> EmailMessage:
        """The e-mail: the first line of its template is the subject."""
        told = json.loads(one.body)
        try:
            template = self._texts.select_template([f"{one.kind}.txt", "default.txt"])
            subject, _, text = template.render(id=one.event, **told).partition("\n")
        except TemplateError as error:
            raise NotTaken(f"its template fails: {error}") from error
        made = EmailMessage()
        made["Subject"] = " ".join(shown(subject).split())
        made["From"], made["To"] = smtp.sender, ", ".join(target.to)
        # The same on every try: a mail program shows it once.
        made["Message-ID"] = f"<{one.event}.{target.id}@{smtp.sender.partition('@')[2]}>"
        made.set_content(text.lstrip("\n"))
        return made


def _hand_over(smtp: Smtp, password: str, message: EmailMessage) -> None:
    context = ssl.create_default_context()
    tls = smtp.security == "tls"
    server = (
        smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=_SECONDS, context=context)
        if tls
        else smtplib.SMTP(smtp.host, smtp.port, timeout=_SECONDS)
    )
    with server:
        if smtp.security == "starttls":
            server.starttls(context=context)
        if smtp.user:
            server.login(smtp.user, password)
        refused = server.send_message(message)
    if refused:
        raise NotTaken(f"refused for {', '.join(refused)}")
