"""The console in a browser, as people see it, and the server without one; for console.py.

Needs console-requirements.txt, and Chromium or Chrome on the path.
"""

import json
import shutil
import sys
import time
import urllib.request

from playwright.sync_api import expect

BROWSERS = ["chromium", "chromium-headless-shell", "google-chrome", "chromium-browser"]
# Far longer than anything takes that is waited for.
MILLISECONDS = 120_000


def check(condition, what):
    """Prints what held, or ends the walk with it."""
    if not condition:
        sys.exit(f"did not hold: {what}")
    print(f"ok  {what}")


def browser_of_this_machine():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or sys.exit("there is no browser: install Chromium (Debian: apt install chromium-headless-shell)")


class Server:
    """The server, asked without a browser."""

    def __init__(self, address):
        self.url = f"http://{address}/"

    def get(self, path):
        return urllib.request.urlopen(self.url + path).read().decode()

    def post(self, path, body):
        return urllib.request.urlopen(urllib.request.Request(self.url + path, body.encode(), method="POST")).read()

    def rows(self, sql, as_of=""):
        return json.loads(self.post(f"v1/sql?as_of={as_of}", sql))

    def comes_to_rest(self):
        """Waits until no statement is computed any more."""
        until = time.monotonic() + MILLISECONDS / 1000
        while "\nlakebed_queries_running 0\n" not in self.get("metrics"):
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


class Page:
    """The console in a browser, by what people see of it: names of buttons, labels, texts."""

    def __init__(self, context, url):
        self.asked = []
        self.errors = []
        self.page = context.new_page()
        self.page.set_default_timeout(MILLISECONDS)
        self.page.on("request", lambda request: self.asked.append(request.post_data or ""))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.complained)
        self.page.goto(url)

    def complained(self, message):
        """Refusals of the server are no faults of the page; what its Content-Security-Policy forbids is."""
        if "Content Security Policy" in message.text:
            self.errors.append(message.text)

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

    def label(self, name):
        return self.page.get_by_label(name, exact=True)

    def told(self):
        return self.page.locator("#told").inner_text()

    def run(self, sql):
        self.label("Statement").fill(sql)
        self.page.keyboard.press("Control+Enter")
        self.comes_to_an_end()

    def comes_to_an_end(self):
        expect(self.page.locator("#cancel")).to_be_hidden(timeout=MILLISECONDS)

    def failure(self):
        return self.page.locator("#ask").get_by_role("alert").locator("p").all_inner_texts()

    def columns(self):
        """Names of the columns of the answer, each with its type."""
        return [tuple(text.split("\n")) for text in self.page.locator("#answer th").all_inner_texts()]

    def rows(self):
        return [row.locator("td").all_inner_texts() for row in self.page.locator("#answer tbody tr").all()]

    def cell(self):
        return self.page.locator("#answer tbody td").first
