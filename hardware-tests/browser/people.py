"""People who use the pages: one browser on the administrator's machine, and what each of them does in it."""

import contextlib
import glob
import os
import sys

from playwright.sync_api import sync_playwright

PAGES = "https://192.168.77.1"
ADMIN, PASSWORD = "anna", "correct horse battery"

_AXE = glob.glob(os.path.join(sys.prefix, "lib/python3*/site-packages/axe_playwright_python/axe.min.js"))[0]


class Browser:
    def __init__(self, lab, pictures=None):
        self.lab = lab
        self.pictures = pictures
        self.contexts = []
        self.last = None

    def __enter__(self):
        # The driver and Chromium inherit the namespace of the thread that starts them.
        with self.lab.admin.inside():
            self.playwright = sync_playwright().start()
            self.chromium = self.playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"])
        if self.pictures:
            os.makedirs(self.pictures, exist_ok=True)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.chromium.close()
        self.playwright.stop()

    def person(self, script=True, theme="light", width=1280, signed_in=True):
        """A fresh browser profile; what it complains about is kept in `complaints`."""
        context = self.chromium.new_context(
            ignore_https_errors=True, java_script_enabled=script, color_scheme=theme, viewport={"width": width, "height": 800}, base_url=PAGES,
        )
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.complaints = []
        page.scripts = script
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        self.contexts.append(context)
        self.last = page
        if signed_in:
            sign_in(page)
        return page

    def close_pages(self):
        for context in self.contexts:
            # A page that is just loading could keep close() waiting for ever.
            for page in context.pages:
                with contextlib.suppress(Exception):
                    page.goto("about:blank", timeout=3000)
            context.close()
        self.contexts = []

    def leave_picture(self, name):
        """Of the page on which a walk failed."""
        with contextlib.suppress(Exception):
            path = os.path.join(self.pictures or self.lab.log_dir, f"failed-{name}.png")
            self.last.screenshot(path=path, full_page=True)
            print(f"    the page it failed on: {path} ({self.last.url})")

    def picture(self, page, name):
        if self.pictures:
            page.screenshot(path=os.path.join(self.pictures, name + ".png"), full_page=True, timeout=60_000)


def sign_in(page, name=ADMIN, password=PASSWORD):
    page.goto("/login")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", level=1, name="Dashboard").wait_for()


def violations(page):
    """What axe-core finds wrong with the page as it stands, every rule that it has; one line each."""
    # On a page without scripts axe-core never answers: its promises need timers.
    assert page.scripts, "look for violations on a page with scripts"
    # The CSP keeps foreign scripts out of the page, axe too; evaluate() goes past it as the developer tools do.
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(open(_AXE).read())
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    return [f"{rule['id']}: {node['html'][:120]} ({node['failureSummary'].splitlines()[-1].strip()})" for rule in found for node in rule["nodes"]]


def sideways(page):
    """What makes the page scroll sideways: the page's width in pixels, and who sticks out."""
    return page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= width) return null;
            const out = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > width + 1 && !e.closest('.scroll, pre, .editor'));
            return document.documentElement.scrollWidth + ' px: ' + out.slice(0, 3).map(e => e.tagName + '.' + e.className).join(', ');
        }"""
    )
