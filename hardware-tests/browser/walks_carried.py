"""The walks through the pages of mapped clients: real upstreams, a real forwarder, real connections of the lab's clients."""

import re

from mapped import connected, fetch, set_the_stage, wait_permitted
from people import ADMIN, PASSWORD, sideways, sign_in
from playwright.sync_api import expect
from upstreams import PASSWORD as SECRET

PAGES = {
    "mappings-carried": "/mappings",
    "mappings-found": "/mappings?q=lan&state=blocked",
    "mapping": "/mappings/mapping?name=one",
    "mapping-new-carried": "/mappings/new",
    "upstreams-carried": "/upstreams",
    "upstream": "/upstreams/upstream?name=socks",
    "upstream-new": "/upstreams/new",
    "group": "/upstreams/group?name=either",
    "group-new": "/upstreams/group/new",
    "connections-carried": "/connections",
    "dashboard-carried": "/",
}


def words():
    # walks.py names these walks, so that it cannot be imported before they are there.
    import walks

    return walks


class Carrying:
    """The stories' mapped clients stand on the box during the block, and afterwards the office again."""

    def __init__(self, stage):
        self.stage = stage

    def __enter__(self):
        set_the_stage(self.stage)
        return self.stage

    def __exit__(self, *_):
        self.stage.become(self.stage.office())


def carried_pages(stage, browser):
    """the pages of mapped clients in both themes: axe-core finds nothing, nothing scrolls sideways at 360 px, no error in the console"""
    say = words()
    with Carrying(stage), connected(stage.lan1), connected(stage.lan2):
        # Something to look at in the figures.
        fetch(stage.lan1, 3_000_000)
        fetch(stage.lan2, 800_000)
        for theme in ("light", "dark"):
            page = browser.person(theme=theme)
            for name, path in PAGES.items():
                page.complaints.clear()
                page.goto(path)
                say.nothing_wrong(page, f"{path}, {theme}")
                assert not page.complaints, f"{path}: {page.complaints}"
                browser.picture(page, f"{name}-{theme}")
        page = browser.person(width=360, script=False)
        for name, path in PAGES.items():
            page.goto(path)
            wide = sideways(page)
            assert wide is None, f"{path} at 360 px: {wide}"
            browser.picture(page, f"{name}-narrow")
    return f"{len(PAGES)} pages"


def carried_flows(stage, browser):
    """a client's connection is seen, found by its address, and ended; the client notices"""
    with Carrying(stage):
        page = browser.person(script=False)
        client = connected(stage.lan1)
        page.goto("/connections?client=192.168.2.10")
        expect(page.get_by_role("rowheader", name=re.compile(r"192\.168\.2\.10:\d+"))).to_have_count(1)
        page.get_by_role("button", name=re.compile("^End 192")).click()
        expect(page.get_by_text("Ended: 1 flow.")).to_be_visible()
        client.settimeout(3)
        try:
            ended = client.recv(1) == b""
        except ConnectionError:
            ended = True
        assert ended, "the client's connection goes on"
        expect(page.get_by_text("Nothing is open")).to_be_visible()


def carried_blocked(stage, browser):
    """an upstream that dies shows on an open page by itself, with the reason in words, and so does its return"""
    with Carrying(stage):
        page = browser.person()
        page.goto("/mappings")
        badge = page.locator('[data-live="map.one.state"]')
        expect(badge).to_have_text("let in")
        secret = browser.person()
        secret.goto("/upstreams")
        secret.get_by_role("button", name="Forget lab").click()
        expect(secret.get_by_text("The secret lab is forgotten")).to_be_visible()
        secret.get_by_label("Name of the secret").fill("lab")
        secret.get_by_label("Password").fill(SECRET)
        secret.get_by_role("button", name="Set the secret").click()
        expect(secret.get_by_text("The secret lab is set.")).to_be_visible()
        assert SECRET not in secret.content(), "a secret comes back on the page"
        wait_permitted(stage, "one", "two")

        stage.lab.stop("forwarder")
        try:
            expect(badge).to_have_text("blocked", timeout=5_000)
            expect(page.locator('[data-live="map.one.why"]')).to_contain_text("The forwarder is not there")
            assert badge.get_attribute("data-tone") == "bad"
            page.goto("/connections")
            expect(page.get_by_text("The forwarder does not answer.")).to_be_visible()
            words().nothing_wrong(page, "/connections without forwarder")
        finally:
            stage.lab.start("forwarder")
        page.goto("/mappings")
        expect(badge).to_have_text("let in", timeout=15_000)


def carried_change(stage, browser):
    """without JavaScript: a mapping is changed in its form, gated by a probe, confirmed; a table with a bad line is refused whole"""
    say = words()
    with Carrying(stage):
        page = browser.person(script=False)
        page.goto("/mappings/mapping?name=one")
        page.get_by_role("button", name="Test now").click()
        expect(page.get_by_text(re.compile("socks answered in .* exit 100.64.1.10"))).to_be_visible()
        page.get_by_label("Way out").select_option("group either")
        page.get_by_label("A day", exact=True).fill("5000")
        page.get_by_role("button", name="Save and preview").click()
        expect(page.get_by_text(re.compile("mapping one, by group either instead of upstream socks"))).to_be_visible()
        browser.picture(page, "preview-carried-light")
        say.apply(page)
        say.confirm(page)
        wait_permitted(stage, "one", "two")
        page.goto("/mappings")
        expect(page.get_by_text(re.compile("of 5.00 GB"))).to_be_visible()

        # What is wrong stays in the form.
        page.goto("/mappings/new")
        page.get_by_label("Name", exact=True).fill("three")
        page.get_by_label("Clients").fill("192.168.2.10")
        page.get_by_label("Way out").select_option("upstream socks")
        page.get_by_role("button", name="Save and preview").click()
        expect(page.get_by_role("heading", name="It cannot be saved like this")).to_be_visible()
        expect(page.get_by_label("Clients")).to_have_value("192.168.2.10")
        browser.picture(page, "mapping-refused-light")

        with page.expect_download() as export:
            page.goto("/mappings")
            page.get_by_role("link", name="Export CSV").click()
        table = open(export.value.path(), "rb").read()
        assert table.startswith(b"name,clients,") and b"\none," in table, table
        page.goto("/mappings/import")
        bad = table + b"three,nonsense,socks\n"
        page.get_by_label("File", exact=True).set_input_files({"name": "m.csv", "mimeType": "text/csv", "buffer": bad})
        page.get_by_role("button", name="Check and import").click()
        expect(page.get_by_role("heading", name="Nothing was imported")).to_be_visible()
        page.get_by_label("File", exact=True).set_input_files({"name": "m.csv", "mimeType": "text/csv", "buffer": table})
        page.get_by_role("button", name="Check and import").click()
        say.heading(page, "Preview")
        expect(page.get_by_text("0 added, 0 changed, 2 as they were")).to_be_visible()
        say.discard(page)


def carried_set_up(stage, browser):
    """without JavaScript and without a line of YAML: an upstream with a password, a group, and a mapping that is let in by them"""
    say = words()
    with Carrying(stage):
        page = browser.person(script=False)
        page.goto("/upstreams")
        page.get_by_role("link", name="Add an upstream").first.click()
        page.get_by_label("Name", exact=True).fill("rented")
        page.get_by_label("Address", exact=True).fill("192.168.2.1")
        page.get_by_label("Port", exact=True).fill("1081")
        page.get_by_label("UDP").select_option("no")
        page.get_by_label("User name").fill("gate")
        page.get_by_label("Address to ask").fill("http://198.51.100.10:8088/")
        page.get_by_role("button", name="Save and preview").click()
        expect(page.get_by_label("Address", exact=True)).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_text("is the box itself")).to_be_visible()
        browser.picture(page, "upstream-refused-light")
        page.get_by_label("Address", exact=True).fill("100.64.1.10")
        page.get_by_label("Password").fill(SECRET)
        page.get_by_role("button", name="Save and preview").click()
        say.heading(page, "Preview")
        assert SECRET not in page.content(), "a password comes back"

        page.goto("/upstreams/group/new")
        page.get_by_label("Name", exact=True).fill("both")
        page.get_by_label("Member 1").select_option("rented")
        page.get_by_label("Member 2").select_option("spare")
        page.get_by_role("button", name="Save and preview").click()
        say.heading(page, "Preview")
        page.goto("/mappings/mapping?name=two")
        page.get_by_label("Way out").select_option("group both")
        page.get_by_role("button", name="Save and preview").click()
        expect(page.get_by_text("mapping two, by group both instead of group either")).to_be_visible()
        page.goto("/upstreams")
        expect(page.get_by_text("Not applied yet.")).to_have_count(2)
        page.goto("/policies/preview")
        say.apply(page)
        say.confirm(page)
        wait_permitted(stage, "one", "two")
        page.goto("/upstreams/upstream?name=rented")
        expect(page.get_by_text("healthy").first).to_be_visible()
        expect(page.get_by_label("Secret", exact=True)).to_have_value("rented-password")
        browser.picture(page, "upstream-added-light")

        # What a mapping needs stays.
        page.get_by_role("button", name="Take out of the policy").click()
        expect(page.get_by_role("heading", name="It cannot be saved like this")).to_be_visible()
        page.goto("/explain?from=lan&source=192.168.2.11&destination=198.51.100.10&protocol=tcp&port=443")
        expect(page.get_by_text("a client of the mapping")).to_be_visible()
        browser.picture(page, "explain-carried-light")


def carried_refusals(stage, browser):
    """forms about mapped clients that complain: axe-core finds nothing in either theme"""
    say = words()
    with Carrying(stage):
        for theme in ("light", "dark"):
            page = browser.person(theme=theme)
            for path, fill in (("/mappings/new", mapping_of_another), ("/upstreams/new", upstream_on_the_box), ("/mappings/import", table_with_a_bad_line)):
                page.goto(path)
                fill(page)
                say.nothing_wrong(page, f"{path}, refused, {theme}")
                browser.picture(page, f"refused{path.replace('/', '-')}-{theme}")


def mapping_of_another(page):
    page.get_by_label("Name", exact=True).fill("three")
    page.get_by_label("Clients").fill("192.168.2.10")
    page.get_by_label("Way out").select_option("upstream socks")
    page.get_by_role("button", name="Save and preview").click()
    expect(page.get_by_role("heading", name="It cannot be saved like this")).to_be_visible()


def upstream_on_the_box(page):
    page.get_by_label("Name", exact=True).fill("rented")
    page.get_by_label("Address", exact=True).fill("192.168.2.1")
    page.get_by_label("Port", exact=True).fill("70000")
    page.get_by_role("button", name="Save and preview").click()
    expect(page.get_by_role("heading", name="It cannot be saved like this")).to_be_visible()


def table_with_a_bad_line(page):
    table = b"name,clients,upstream\nthree,nonsense,socks\n"
    page.get_by_label("File", exact=True).set_input_files({"name": "m.csv", "mimeType": "text/csv", "buffer": table})
    page.get_by_role("button", name="Check and import").click()
    expect(page.get_by_role("heading", name="Nothing was imported")).to_be_visible()


def carried_by_keyboard(stage, browser):
    """from login to a tested upstream with nothing but a keyboard"""
    with Carrying(stage):
        page = browser.person(signed_in=False)
        sign_in(page, ADMIN, PASSWORD)
        page.goto("/upstreams")
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.innerText") == "Test all now":
                break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Enter")
        expect(page.get_by_text(re.compile("socks answered in"))).to_be_visible(timeout=20_000)


ALL = [carried_pages, carried_flows, carried_blocked, carried_change, carried_set_up, carried_refusals, carried_by_keyboard]
