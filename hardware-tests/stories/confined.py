"""What confines the image's processes is in force, and lets them do their work."""

from stories import expect, expect_true, story

# Units, and the profile under which their processes run.
CONFINED = {
    "portcullis-applier": "portcullis-applier",
    "portcullis-control": "portcullis-control",
    "portcullis-forwarder": "portcullis-forwarder",
    "portcullis-observer": "portcullis-observer",
    "portcullis-admin-front": "portcullis-admin-front",
    "chrony": "/usr/sbin/chronyd",
}
DENIED = "journalctl -b --no-pager _TRANSPORT=audit + _TRANSPORT=kernel | grep 'apparmor=\"DENIED\"'"


@story("every process of the box runs under its AppArmor profile, in enforce mode")
def enforced(stage):
    stage.box.run("until systemctl -q is-active portcullis-admin-front; do sleep 1; done")
    found = {}
    for unit in CONFINED:
        pids = stage.box.run(f"systemctl show -P ControlGroup {unit} | xargs -I{{}} cat /sys/fs/cgroup{{}}/cgroup.procs").split()
        found[unit] = {stage.box.run(f"cat /proc/{pid}/attr/current", check=False).strip() or "gone" for pid in pids} - {"gone"}
    expect(found, {unit: {f"{profile} (enforce)"} for unit, profile in CONFINED.items()}, "profiles")


@story("in all that the stories did so far, no profile forbade anything")
def nothing_denied(stage):
    expect(stage.box.run(DENIED, check=False).splitlines()[:10], [], "what was denied")


@story("control: under each profile /etc/shadow cannot be read, and the kernel says so; without one it can")
def shadow(stage):
    expect_true("root:" in stage.box.run("cat /etc/shadow"), "root reads it without a profile")
    for profile in sorted(set(CONFINED.values()) - {"/usr/sbin/chronyd"}):
        # The shell has the file's reader built in: a program that may not be started would say nothing of the file.
        # Its words go into a pipe, which has no path that a profile could forbid.
        said = stage.box.run(f"(echo changeprofile {profile} >/proc/$BASHPID/attr/current && read -r line </etc/shadow; echo \"got $line\") 2>&1 | cat", check=False)
        expect_true("root:" not in said and "Permission denied" in said, f"{profile} let /etc/shadow be read: {said!r}")
    # These are the story's own; what comes after them is looked at again.
    expect_true(stage.box.run(DENIED, check=False).count("/etc/shadow") >= len(CONFINED) - 1, "the journal names them")


@story("nobody was ended by a watchdog, by a system call that is not allowed, or for want of memory")
def nobody_was_ended(stage):
    said = stage.box.run("journalctl -b --no-pager _PID=1 | grep -E 'watchdog timeout|code=(dumped|killed), status=(31/SYS|6/ABRT)|oom-kill' | grep portcullis", check=False)
    expect(said.splitlines()[:10], [], "who was ended")
