"""A dashboard whose stream the test writes itself, event by event, in place of the server's."""

from collections.abc import Sequence
from typing import Any

from playwright.sync_api import Page

# The stream stays open until it is ended; each opening is one number more.
_SCRIPT = """
const ordinaryFetch = window.fetch;
window.feed = {
  numOpened: 0,
  push(message) { this.write(`data: ${JSON.stringify(message)}\\n\\n`); },
};
window.fetch = (path, options = {}) => {
  if (!String(path).endsWith("dashboard/events")) return ordinaryFetch(path, options);
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    start(controller) {
      options.signal?.addEventListener("abort", () => controller.error(options.signal.reason));
      window.feed.write = text => controller.enqueue(encoder.encode(text));
      window.feed.end = () => controller.close();
      window.feed.numOpened += 1;
    },
  });
  return Promise.resolve(new Response(body));
};
"""
_REQUEST_COLUMNS = ("owner", "id", "stage", "num_blocks", "queue_s", "prefill_s", "decode_s")


def script_feed(page: Page) -> None:
    """For `open_page(..., before=script_feed)`: the page's stream is a `ScriptedFeed`'s."""
    page.add_init_script(_SCRIPT)


class ScriptedFeed:
    """Says what the server would say."""

    def __init__(self, page: Page, num_blocks: int) -> None:
        self.page = page
        self.num_blocks = num_blocks

    @property
    def num_opened(self) -> int:
        return int(self.page.evaluate("window.feed.numOpened"))

    def hello(self) -> None:
        self._push(
            type="hello",
            model="scripted",
            num_blocks=self.num_blocks,
            max_num_seqs=8,
            max_queued_requests=8,
            request_columns=_REQUEST_COLUMNS,
            sample_columns=["at"],
            sample_interval_s=1,
            history=[],
        )

    def frame(self, num_used: int, requests: Sequence[Sequence[Any]] = ()) -> None:
        """The first `num_used` blocks are used, all others free."""
        self._push(
            type="frame",
            full=True,
            runs=[0, num_used, 4 + 2, 0, self.num_blocks - num_used, 0],
            counts={
                "free": self.num_blocks - num_used,
                "cached": 0,
                "used": num_used,
                "shared": 0,
            },
            num_running=len(requests),
            num_waiting=0,
            requests=requests,
        )

    def trouble(self, message: str) -> None:
        self._push(type="trouble", message=message)

    def end(self) -> None:
        """The server ends the stream."""
        self.page.evaluate("window.feed.end()")

    def _push(self, **message: Any) -> None:
        self.page.evaluate("message => window.feed.push(message)", message)
