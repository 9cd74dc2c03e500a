"""From a conversation to the prompt that the model's chat template makes of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .chat_template import SECONDS, ChatTemplate
from .errors import BadRequestError, ConfigurationError
from .side_threads import SideThreads
from .template_input import TemplateInput, over_the_limit
from .template_limits import TemplateLimitError, TemplateTimeError
from .template_process import TemplateProcess

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

SECONDS_AT_ONCE = 0.02  # that `render_served` keeps the event loop's thread busy
# What stands before the template costs time by the message, too.
_MESSAGES_AT_ONCE = 1000


class ChatPrompts:
    """Renders conversations for one model.

    `trusts_requests` lets a request bring a template of its own. Raises ConfigurationError if the
    model's is not valid.
    """

    def __init__(self, tokenizer: "Tokenizer", *, trusts_requests: bool) -> None:
        self._tokenizer = tokenizer
        self._trusts_requests = trusts_requests
        self._template = ChatTemplate.for_tokenizer(tokenizer)
        self.source = tokenizer.chat_template or ""
        self.shows_tools = self._template is not None and self._template.shows_tools
        self._process = TemplateProcess(tokenizer.bos_token, tokenizer.eos_token)
        # One each: what takes long waits for its like and for nothing else.
        self._long = SideThreads(1, "chat-template")
        self._foreign = SideThreads(1, "request-template")

    def render(self, given: TemplateInput, template: str | None = None) -> str:
        """The prompt's text, by the model's template or another one, in this process.

        Raises BadRequestError if the template refuses the messages, fails, or takes too much.
        """
        chosen = self._own() if template is None else self._of_request(template)
        return _limits_told(lambda: given.render(chosen))

    async def render_served(self, given: TemplateInput, template: str | None = None) -> str:
        """As `render`, but others are served meanwhile, whatever the template does.

        A request's template runs in a process of its own, which can be ended; the model's on a
        thread, if it does not finish at once, where the sandbox stops it.
        """
        if template is not None:
            self._check_trust()
            return await self._foreign.run(lambda: self._process.render(template, given))
        own = self._own()
        if len(given.messages) <= _MESSAGES_AT_ONCE:
            try:
                return given.render(own, SECONDS_AT_ONCE)
            except TemplateTimeError:
                pass
            except TemplateLimitError as error:
                raise over_the_limit(error, "messages") from None
        return await self._long.run(lambda: _limits_told(lambda: given.render(own, SECONDS)))

    def close(self) -> None:
        """End the process of requests' templates. What waits for it is refused."""
        self._foreign.close()
        self._process.close()

    def _own(self) -> ChatTemplate:
        if self._template is None:
            raise BadRequestError(
                "This model has no chat template: use /v1/completions, or start the server with "
                "--chat-template FILE.",
                "messages",
            )
        return self._template

    def _of_request(self, source: str) -> ChatTemplate:
        self._check_trust()
        try:
            return ChatTemplate(source, self._tokenizer.bos_token, self._tokenizer.eos_token)
        except ConfigurationError as error:
            raise BadRequestError(str(error), "chat_template") from None

    def _check_trust(self) -> None:
        if not self._trusts_requests:
            raise BadRequestError(
                "`chat_template` of a request is used only if the server was started with "
                "--trust-request-chat-template.",
                "chat_template",
            )


def _limits_told(render: Callable[[], str]) -> str:
    try:
        return render()
    except TemplateLimitError as error:
        raise over_the_limit(error, "messages") from None
