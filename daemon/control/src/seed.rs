//! A seed file from a stick: what it says is done once, whole or not at all, and told on the console and in the audit log.
//!
//! The updater reads sticks and hands the file over; here it is judged and used.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use policy::seed::{FILE, Sown, sow};

use crate::actor::Actor;
use crate::audit::Note;
use crate::revision::FoundIn;
use crate::role::Role;
use crate::site::{Settings, Site};
use crate::trouble::Trouble;
use crate::{password, setup, stick, trial, user};

/// The name under which a seed applies and is written down.
const NAME: &str = "seed";
const MAX_BYTES: u64 = 4 << 20;
/// For an applier that is still starting.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the sticks.
const PAUSE: Duration = Duration::from_secs(5);
/// For one that cannot be asked a second after it was: it reads back, and a port may take its time.
const CONFIRM_WITHIN: u32 = 120;

/// Looks for a seed, on sticks too, until this box was seeded or set up. One that was refused may be mended and plugged in again.
pub fn watch(site: &Site) {
    let mut last = None;
    while is_new(site) && !site.ticks.stopped() {
        match find(site) {
            Err(error) if last.as_ref() != Some(&error) => {
                tell(site, "seed.refused", vec![format!("{FILE} cannot be read: {error}")]);
                last = Some(error);
            }
            Ok(Some(text)) if last.as_ref() != Some(&text) => {
                use_it(site, &text);
                last = Some(text);
            }
            _ => {}
        }
        thread::sleep(PAUSE);
    }
}

fn is_new(site: &Site) -> bool {
    !done_file(&site.settings).exists() && user::any(site).is_ok_and(|any| !any)
}

/// Where it was put, or in the root folder of a stick.
fn find(site: &Site) -> Result<Option<String>, String> {
    let file = match File::open(&site.settings.seed) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => stick::find(&site.settings.run_dir.join("updater.sock"), FILE)?,
        Err(error) => return Err(error.to_string()),
    };
    file.map(read).transpose()
}

fn use_it(site: &Site, text: &str) {
    match sow(text) {
        Err(problems) => {
            let found = problems.0.iter().map(ToString::to_string);
            tell(site, "seed.refused", std::iter::once(format!("{FILE} was not used, nothing was changed:")).chain(found).collect());
        }
        Ok(sown) => match plant(site, &sown) {
            Ok(lines) => tell(site, "seed.used", lines),
            Err(trouble) => tell(site, "seed.refused", vec![format!("{FILE} was not used: {trouble}")]),
        },
    }
}

/// For the console: what became of a seed, if there was one.
pub fn report(settings: &Settings) -> Vec<String> {
    let text = fs::read_to_string(report_file(settings)).unwrap_or_default();
    text.lines().take(50).map(str::to_owned).collect()
}

/// The policy first: without it nobody is let in.
fn plant(site: &Site, sown: &Sown) -> Result<Vec<String>, Trouble> {
    let mut lines = vec![format!("{FILE} was used.")];
    if let Some(admin) = &sown.seed.admin {
        user::check_name(&admin.name)?;
        if !password::is_hash(&admin.password_hash) {
            return Err(Trouble::field(
                "admin.passwordHash",
                "is no Argon2id hash ($argon2id$v=19$m=...); make one with `argon2 SALT -id -m 14 -e`",
            ));
        }
    }
    if let Some((sources, judged)) = &sown.policy {
        let actor = Actor::the_box(NAME);
        wait_for_the_applier(site)?;
        let applied =
            trial::put_on_trial(site, &actor, sources, &judged.digest, "from a seed file", Some(CONFIRM_WITHIN), FoundIn::HotReload)?;
        // Over a connection of its own, as for everyone; nobody is there who could do it.
        trial::keep_own(site, &actor, applied.generation)?;
        lines.push(format!("Its policy runs as generation {}.", applied.generation));
    }
    if let Some(admin) = &sown.seed.admin {
        site.change(&Actor::the_box(NAME), |ledger| user::insert(ledger, &admin.name, Role::Admin, &admin.password_hash))?;
        setup::close(site);
        lines.push(format!("{} may sign in as admin.", admin.name));
    }
    if let Some(code) = &sown.seed.setup_code {
        setup::offer_this(site, code)?;
        lines.push("Its code sets the box up.".to_owned());
    }
    fs::write(done_file(&site.settings), "").map_err(|error| Trouble::Internal(format!("the seed cannot be marked as used: {error}")))?;
    Ok(lines)
}

fn wait_for_the_applier(site: &Site) -> Result<(), Trouble> {
    let until = Instant::now() + PATIENCE;
    loop {
        match site.applier.status() {
            Err(trouble) if Instant::now() >= until => return Err(trouble),
            Err(_) => thread::sleep(Duration::from_millis(500)),
            Ok(_) => return Ok(()),
        }
    }
}

fn tell(site: &Site, action: &'static str, lines: Vec<String>) {
    for line in &lines {
        eprintln!("Portcullis seed: {line}");
    }
    let text = lines.join("\n");
    let _ = fs::write(report_file(&site.settings), &text);
    let detail: String = text.chars().take(2000).collect();
    if let Err(trouble) = site.change(&Actor::the_box(NAME), |ledger| ledger.note(Note::new(action, FILE, detail))) {
        tracing::error!(%trouble, "what became of the seed could not be written down");
    }
}

fn read(file: File) -> Result<String, String> {
    let mut text = String::new();
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if length as u64 > MAX_BYTES { Err(format!("it is longer than {} MiB", MAX_BYTES >> 20)) } else { Ok(text) }
}

fn done_file(settings: &Settings) -> PathBuf {
    settings.state_dir.join("seed.done")
}

fn report_file(settings: &Settings) -> PathBuf {
    settings.state_dir.join("seed.report")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Story, policy};

    const ADMIN: &str = "apiVersion: portcullis/v1\nkind: Seed\nspec:\n  admin: { name: ada, passwordHash: 'HASH' }\n";

    fn sown(text: &str) -> Story {
        let story = Story::new();
        fs::write(&story.site.settings.seed, text).unwrap();
        setup::offer(&story.site).unwrap();
        use_it(&story.site, &find(&story.site).unwrap().unwrap());
        story
    }

    fn audited(story: &Story) -> Vec<String> {
        crate::audit::list(&story.site, &crate::audit::Filter { limit: 50, ..Default::default() })
            .unwrap()
            .into_iter()
            .map(|entry| entry.action)
            .collect()
    }

    #[test]
    fn a_box_that_nobody_sits_at_is_configured_by_its_seed_once() {
        let hash = Story::new().site.hasher.hash("a headless box in the rack").unwrap();
        let wanted = policy("rack-7");
        let story = sown(&format!("{}---\n{}", ADMIN.replace("HASH", &hash), wanted.0["box.yaml"]));
        assert!(user::get(&story.site, "ada").is_ok_and(|user| user.role == Role::Admin), "{:?}", report(&story.site.settings));
        assert_eq!(story.site.applier.status().unwrap().last_confirmed, Some(1));
        assert!(audited(&story).contains(&"seed.used".to_owned()));
        assert_eq!(setup::offered(&story.site), None, "the code leads nowhere any more");
        story.site.change(&Actor::the_box("test"), |ledger| Ok(ledger.tx.execute("DELETE FROM users", [])?)).unwrap();
        watch(&story.site);
        assert!(!user::any(&story.site).unwrap(), "a seed is used once");
    }

    #[test]
    fn a_seed_with_problems_changes_nothing_and_says_all_of_them() {
        let story = sown(&format!("{}  colour: red\n---\nkind: Zoen\n", ADMIN));
        let told = report(&story.site.settings).join("\n");
        assert!(told.contains("colour") && told.contains("Zoen") && told.contains("nothing was changed"), "{told}");
        assert!(!user::any(&story.site).unwrap());
        assert!(setup::offered(&story.site).is_some(), "the way by the console stays open");
        assert!(audited(&story).contains(&"seed.refused".to_owned()));
    }

    #[test]
    fn a_hash_that_is_none_lets_nobody_in_and_applies_no_policy() {
        let story = sown(&format!("{}---\n{}", ADMIN.replace("HASH", "hunter2hunter2"), policy("rack-7").0["box.yaml"]));
        assert!(report(&story.site.settings)[0].contains("no Argon2id hash"));
        assert_eq!(story.site.applier.status().unwrap().running, None);
    }

    #[test]
    fn the_code_of_a_seed_survives_a_restart_and_works_once() {
        let story = sown("apiVersion: portcullis/v1\nkind: Seed\nspec:\n  setupCode: RACK7-RACK7-RACK7-RACK7\n");
        fs::remove_file(&story.site.settings.seed).unwrap();
        setup::offer(&story.site).unwrap();
        assert_eq!(setup::offered(&story.site).as_deref(), Some("RACK7-RACK7-RACK7-RACK7"));
        setup::redeem(&story.site, &story.client(), "rack7rack7rack7rack7", "ada", "a headless box in the rack").unwrap();
        assert_eq!(setup::offered(&story.site), None);
    }
}
