"""The walks through the pages, each a sentence. The first one sets the box up; all others find an administrator."""

import json
import re
import threading
import time

import probes
import walks_carried
from people import ADMIN, PASSWORD, sideways, sign_in, violations
from playwright.sync_api import expect

INET4, INET6 = "198.51.100.10", "2001:db8:51::10"

# Everything that an administrator can open, with something to show where a page needs a question.
EVERY_PAGE = {
    "dashboard": "/",
    "firewall": "/firewall",
    "firewall-pair": "/firewall?from=lan&to=wan",
    "firewall-nat": "/firewall/nat",
    "firewall-sets": "/firewall/sets",
    "firewall-kernel": "/firewall/kernel",
    "mappings": "/mappings",
    "mapping-new": "/mappings/new",
    "mapping-import": "/mappings/import",
    "upstreams": "/upstreams",
    "upstream-first": "/upstreams/new",
    "connections": "/connections",
    "alerts": "/alerts",
    "seen": "/seen",
    "policies": "/policies",
    "editor": "/policies/file?name=policy.yaml",
    "new": "/policies/new",
    "upload": "/policies/upload",
    "preview": "/policies/preview",
    "trial": "/trial",
    "explain": "/explain?from=lan&source=192.168.2.10&destination=198.51.100.10&protocol=tcp&port=443",
    "history": "/history",
    "revision": "/history/revision?id=1",
    "difference": "/history/diff?from=r1&to=candidate",
    "drift": "/drift",
    "audit": "/audit",
    "users": "/users",
    "user": "/users/user?name=vera",
    "keys": "/keys",
    "system": "/system",
    "account": "/account",
    "missing": "/nowhere",
}


# --- words that the walks share ---

def nothing_wrong(page, where):
    found = violations(page)
    assert not found, f"axe-core on {where}: " + "; ".join(found)


def heading(page, text):
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


def write(page, change, then="Save and preview"):
    """Opens the policy in the editor, changes its text, saves."""
    page.goto("/policies/file?name=policy.yaml")
    text = page.get_by_label("Text of policy.yaml", exact=True)
    before = text.input_value()
    after = change(before)
    assert after != before, "the walk's change changes nothing"
    text.fill(after)
    page.get_by_role("button", name=then).click()


def apply(page):
    heading(page, "Preview")
    page.get_by_label("Time to confirm").select_option("120")
    page.get_by_label("Why").fill("a walk")
    page.get_by_role("button", name="Apply on trial").click()
    heading(page, "Trial")


def confirm(page):
    page.get_by_role("button", name="Confirm, keep it").click()
    # The browser is sent round over a new connection by itself.
    heading(page, "Dashboard")
    expect(page.get_by_text(re.compile(r"Generation \d+ is confirmed and stays"))).to_be_visible()


def hostname(page, stage):
    return re.search(r"hostname: (\S+)", list(stage_sources(stage).values())[0]).group(1)


def stage_sources(stage):

    return json.loads(stage.lab.cli("sources", "--json"))


def rename(name):
    return lambda text: re.sub(r"hostname: \S+", f"hostname: {name}", text)


def discard(page):
    page.goto("/policies")
    page.get_by_role("button", name="Discard the candidate").click()
    expect(page.get_by_text("The candidate is discarded")).to_be_visible()


# --- the walks ---

def set_up(stage, browser):
    """a new box is set up without a script: the one-time code makes the first administrator, a wrong one does not"""
    page = browser.person(script=False, signed_in=False)
    page.goto("/")
    heading(page, "Set up this box")
    browser.picture(page, "setup-light")

    def fill(code):
        page.get_by_label("One-time code").fill(code)
        page.get_by_label("User name").fill(ADMIN)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password again").fill(PASSWORD)
        page.get_by_role("button", name="Create the administrator").click()

    fill("AAAA-AAAA-AAAA")
    expect(page.get_by_text("is not the code on the box's console")).to_be_visible()
    expect(page.get_by_label("User name")).to_have_value(ADMIN)
    fill(stage.lab.one_time_code())
    heading(page, "Dashboard")
    page.goto("/setup")
    heading(page, "Dashboard")  # the page is gone for good
    page.goto("/users")
    page.get_by_label("User name").fill("vera")
    page.get_by_label("First password").fill("correct horse battery too")
    page.get_by_role("button", name="Create the user").click()
    expect(page.get_by_text("vera may sign in as viewer now")).to_be_visible()


def first_pages(stage, browser):
    """set-up and login have no accessibility violation in either theme, also when they complain"""
    for theme in ("light", "dark"):
        page = browser.person(theme=theme, signed_in=False)
        page.goto("/login")
        nothing_wrong(page, f"login, {theme}")
        page.get_by_label("User name").fill("nobody")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("The name or the password is wrong")).to_be_visible()
        expect(page.get_by_label("User name")).to_have_value("nobody")
        nothing_wrong(page, f"failed login, {theme}")
        browser.picture(page, f"login-{theme}")


def the_whole_way(stage, browser, script, name):
    page = browser.person(script=script)
    # A slip first: the problem is named at its line, and the text is kept.
    if "policy.yaml" not in stage_sources(stage):
        page.goto("/policies/new")
        page.get_by_label("File name").fill("policy.yaml")
        page.get_by_text("Replace the whole policy").click()
        page.get_by_role("button", name="Create and edit").click()
        page.get_by_label("Text of policy.yaml", exact=True).fill(stage.office())
        page.get_by_role("button", name="Save and check").click()
        expect(page.get_by_text("The candidate has no problems")).to_be_visible()
    write(page, lambda text: rename(name)(text).replace("services: [http, https]", "services: [http, htps]"), then="Save and check")
    expect(page.get_by_text("cannot be applied yet")).to_be_visible()
    link = page.get_by_role("link", name=re.compile(r"policy\.yaml:\d+")).first
    line = int(link.inner_text().rpartition(":")[2])
    assert "htps" in page.get_by_label("Text of policy.yaml", exact=True).input_value().splitlines()[line - 1], "the link names the wrong line"
    link.click()
    expect(page.locator(f"#L{line}")).to_be_in_viewport()
    browser.picture(page, f"editor-problem-{'script' if script else 'plain'}")
    write(page, lambda text: text.replace("htps", "https").replace("services: ping, action: accept", "services: [ping, ntp], action: accept"))
    browser.picture(page, f"preview-{'script' if script else 'plain'}")
    assert "+" in page.get_by_role("region", name="Difference of the text").inner_text()
    apply(page)
    expect(page.get_by_text(re.compile(r"Generation \d+ is on trial")).first).to_be_visible()
    assert stage.status()["trial"], "the applier knows of a trial"
    confirm(page)
    assert stage.status()["trial"] is None and hostname(page, stage) == name, "the applier keeps the new policy"

    # And one that is taken back.
    write(page, rename("never"))
    apply(page)
    assert hostname(page, stage) == "never"
    page.get_by_role("button", name="Go back now").click()
    expect(page.get_by_text(re.compile(r"The gate went back to generation \d+"))).to_be_visible()
    assert hostname(page, stage) == name, "the applier went back"
    # Put the way things were for whoever walks next.
    page.goto("/policies")
    if page.get_by_role("button", name="Discard the candidate").count():
        page.get_by_role("button", name="Discard the candidate").click()
    write(page, lambda text: text.replace("services: [ping, ntp]", "services: ping"))
    apply(page)
    confirm(page)
    assert not page.complaints, page.complaints
    page.get_by_role("button", name="Sign out").first.click()
    expect(page.get_by_text("You are signed out")).to_be_visible()


def without_script(stage, browser):
    """edit, preview, apply, confirm and go back work without JavaScript"""
    the_whole_way(stage, browser, script=False, name="plain-gw")


def with_script(stage, browser):
    """edit, preview, apply, confirm and go back work with JavaScript, under the CSP, without an error in the console"""
    the_whole_way(stage, browser, script=True, name="script-gw")


def by_keyboard(stage, browser):
    """from login to a change on trial and back again with nothing but a keyboard"""
    page = browser.person(signed_in=False)
    page.goto("/login")

    def focused():
        return page.evaluate("(e => (e.labels?.[0]?.innerText || e.getAttribute('aria-label') || e.innerText || e.name || '').trim())(document.activeElement)")

    def tab_to(text, at_most=120):
        for _ in range(at_most):
            page.keyboard.press("Tab")
            if text in focused():
                # Whoever has the focus shows it.
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"{text} has the focus and does not show it"
                return
        raise AssertionError(f"{text} cannot be reached with Tab")

    tab_to("User name")
    page.keyboard.type(ADMIN)
    tab_to("Password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    heading(page, "Dashboard")
    page.keyboard.press("Tab")
    assert focused() == "Skip to content", focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Shift+Tab")
    page.goto("/")
    tab_to("Policies")
    page.keyboard.press("Enter")
    heading(page, "Policies")
    tab_to("policy.yaml")
    page.keyboard.press("Enter")
    heading(page, "policy.yaml")
    tab_to("Text of policy.yaml")
    page.keyboard.press("Control+End")
    page.keyboard.type("# by keyboard\n")
    tab_to("Save and preview")
    page.keyboard.press("Enter")
    heading(page, "Preview")
    tab_to("Apply on trial")
    page.keyboard.press("Enter")
    heading(page, "Trial")
    tab_to("Go back now")
    page.keyboard.press("Enter")
    heading(page, "Dashboard")
    expect(page.get_by_text("The gate went back")).to_be_visible()


def every_page(stage, browser):
    """every page in both themes: axe-core finds nothing, nothing scrolls sideways at 360 px, no error in the console"""
    # Something to see: a candidate, a key, traffic, a refusal.
    traffic(stage)
    page = browser.person()
    write(page, lambda text: text.replace("services: ping,", "services: [ping, ssh],"))
    heading(page, "Preview")
    weights = {}
    for theme in ("light", "dark"):
        page = browser.person(theme=theme)
        page.on("response", lambda response: weights.setdefault(response.url, response.headers.get("content-length")))
        for name, path in EVERY_PAGE.items():
            page.complaints.clear()
            page.goto(path)
            nothing_wrong(page, f"{path}, {theme}")
            expected_404 = [text for text in page.complaints if not (name == "missing" and "404" in text)]
            assert not expected_404, f"{path}: {expected_404}"
            browser.picture(page, f"{name}-{theme}")
    page = browser.person(width=360)
    for name, path in EVERY_PAGE.items():
        page.goto(path)
        wide = sideways(page)
        assert wide is None, f"{path} at 360 px: {wide}"
        nothing_wrong(page, f"{path} at 360 px")
        browser.picture(page, f"{name}-narrow")
    discard(page)
    heavy = max((int(length or 0), url) for url, length in weights.items())
    assert heavy[0] < 100_000, f"{heavy[1]} weighs {heavy[0]} bytes"
    return f"{len(EVERY_PAGE)} pages, the heaviest answer {heavy[0] // 1000} kB"


def on_trial(stage, browser):
    """while a trial runs every page shows it with its countdown, in both themes without a violation, also narrow"""
    page = browser.person()
    write(page, rename("tried"))
    apply(page)
    clock = page.get_by_role("timer")
    first = clock.inner_text()
    expect(clock).not_to_have_text(first, timeout=5000)
    for theme in ("light", "dark"):
        other = browser.person(theme=theme)
        for path in ("/", "/audit", "/policies/preview", "/trial"):
            other.goto(path)
            expect(other.get_by_role("timer")).to_be_visible()
            nothing_wrong(other, f"{path} on trial, {theme}")
        other.goto("/")
        browser.picture(other, f"trial-banner-{theme}")
    narrow = browser.person(width=360, script=False)
    narrow.goto("/")
    expect(narrow.get_by_role("timer")).to_be_visible()
    browser.picture(narrow, "trial-banner-narrow")
    # Whoever stands before an open page hears of the end without doing anything.
    watcher = browser.person()
    watcher.goto("/audit")
    page.get_by_role("button", name="Go back now").click()
    heading(page, "Dashboard")
    expect(watcher.get_by_role("timer")).to_have_count(0, timeout=10_000)


def nobody_confirms(stage, browser):
    """a change that nobody confirms goes back by itself, and the page tells so"""
    page = browser.person()
    write(page, rename("forgotten"))
    heading(page, "Preview")
    before = stage.status()["running"]["number"]
    page.evaluate("document.querySelector('[name=within] option[value=\"30\"]').value = '10'")
    page.get_by_label("Time to confirm").select_option("10")
    page.get_by_role("button", name="Apply on trial").click()
    heading(page, "Trial")
    expect(page.get_by_text("Nothing is on trial")).to_be_visible(timeout=25_000)
    assert stage.status()["running"]["number"] == before


def live(stage, browser):
    """counters and rates move on an open page while packets pass, and the page says that it is live"""
    page = browser.person()
    page.goto("/firewall?from=lan&to=wan")
    expect(page.locator(".side .live")).to_be_visible()
    cell = page.locator('[data-live="rule.out/web.p"]').first
    before = cell.inner_text()
    for _ in range(5):
        probes.tcp(stage.lan1, INET4, 443, timeout=1)
    expect(cell).not_to_have_text(before, timeout=10_000)
    page.goto("/")
    rate = page.locator('[data-live="link.lan0.rx"]')
    stop = threading.Event()
    worker = threading.Thread(target=flood, args=(stage, stop))
    worker.start()
    try:
        expect(rate).to_have_text(re.compile("bit/s"), timeout=10_000)
        seen = {rate.inner_text()}
        end = time.monotonic() + 10
        while len(seen) < 3 and time.monotonic() < end:
            time.sleep(0.5)
            seen.add(rate.inner_text())
    finally:
        stop.set()
        worker.join()
    assert len(seen) >= 3, f"the rate stands still: {seen}"


def themes(stage, browser):
    """a theme is chosen and remembered without JavaScript"""
    page = browser.person(script=False)
    for choice in ("Dark", "Light", "Auto"):
        page.goto("/system")
        page.get_by_role("button", name=choice).first.click()
        heading(page, "System")
        expect(page.get_by_role("button", name=choice).first).to_have_attribute("aria-pressed", "true")
        wanted = None if choice == "Auto" else choice.lower()
        assert page.locator("html").get_attribute("data-theme") == wanted


def roles(stage, browser):
    """a viewer sees no button that would be refused, and is told which role is needed where they go anyway"""
    page = browser.person(signed_in=False)
    sign_in(page, "vera", "correct horse battery too")
    page.goto("/policies")
    assert page.get_by_role("link", name="Upload").count() == 0
    page.goto("/policies/file?name=policy.yaml")
    assert page.get_by_role("button", name="Save").count() == 0
    for path in ("/audit", "/users", "/policies/new"):
        page.goto(path)
        expect(page.get_by_text("The role viewer may not")).to_be_visible()
        nothing_wrong(page, f"refused {path}")
    browser.picture(page, "forbidden-light")


def upload(stage, browser):
    """a file is uploaded, checked, previewed and discarded; one that is no policy is told so at its line"""
    page = browser.person(script=False)
    page.goto("/policies/upload")
    page.get_by_label("File", exact=True).set_input_files({"name": "extra.yaml", "mimeType": "application/yaml", "buffer": b"apiVersion: portcullis/v1\nkind: Zonne\n"})
    page.get_by_role("button", name="Upload and check").click()
    heading(page, "extra.yaml")
    expect(page.get_by_text(re.compile("did you mean.*Zone")).first).to_be_visible()
    discard(page)


def records(stage, browser):
    """the audit log is searched, verified and exported, and an old revision becomes the candidate again"""
    page = browser.person()
    page.goto("/audit")
    page.get_by_role("searchbox", name="Search").fill("VERA")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("cell", name="user.create")).to_be_visible()
    page.get_by_role("button", name="Verify the chain").click()
    expect(page.get_by_text(re.compile(r"The chain is whole: \d+ entries"))).to_be_visible()
    with page.expect_download() as export:
        page.get_by_role("link", name="Export JSON").click()
    assert '"entries"' in open(export.value.path()).read()
    page.goto("/history")
    page.get_by_role("button", name=re.compile("Restore revision 1 ")).click()
    heading(page, "Preview")
    discard(page)
    page.goto("/keys")
    page.get_by_label("What it is for").fill("a walk")
    page.get_by_role("button", name="Create the key").click()
    expect(page.get_by_text("pck_").first).to_be_visible()
    nothing_wrong(page, "a new key")
    browser.picture(page, "key-light")
    page.get_by_role("button", name="Revoke a walk").click()
    expect(page.get_by_text("The key no longer works")).to_be_visible()


def without_applier(stage, browser):
    """with the applier gone every page still answers and says what is not known"""
    page = browser.person()
    stage.lab.stop("applier")
    try:
        page.goto("/")
        expect(page.get_by_role("heading", name="The applier does not answer")).to_be_visible(timeout=10_000)
        for path in ("/firewall", "/firewall/kernel", "/mappings", "/upstreams", "/connections", "/policies", "/history", "/drift", "/system"):
            page.goto(path)
            expect(page.locator(".side").get_by_text("applier not reachable")).to_be_visible()
            nothing_wrong(page, f"{path} without applier")
        page.goto("/")
        browser.picture(page, "applier-gone-light")
    finally:
        stage.lab.start("applier")
    expect(page.get_by_role("heading", name=re.compile("holds the gate"))).to_be_visible(timeout=20_000)


def traffic(stage):
    for _ in range(3):
        probes.tcp(stage.lan1, INET4, 443, timeout=1)
        probes.tcp(stage.lan2, INET6, 80, timeout=1)
        probes.tcp(stage.guest, INET4, 80, timeout=1)
        probes.udp(stage.lan1, INET4, 53, timeout=0.3)
        probes.tcp(stage.lan1, INET4, 25, timeout=0.3)
        probes.ping(stage.lan1, INET4)


def flood(stage, stop):
    import random

    while not stop.is_set():
        for _ in range(random.randint(1, 20)):
            probes.tcp(stage.lan1, INET4, 443, timeout=1)
        time.sleep(random.random())


ALL = [set_up, first_pages, without_script, with_script, by_keyboard, every_page, on_trial, nobody_confirms, live, themes, roles, upload, records, *walks_carried.ALL, without_applier]
