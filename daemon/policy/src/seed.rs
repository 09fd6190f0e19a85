//! A seed file: what configures a box that nobody sits at. One document of kind Seed says who the first admin is, all others are
//! the policy.

use crate::problem::Problems;
use crate::read::node::{Budget, MOST_NODES, Node, Value, parse};
use crate::read::{API_VERSION, documents::documents};
use crate::shape::{Cx, Fields, shape};
use crate::source::{Origin, Sources};
use crate::{Judged, judge};

/// How the file is called, on a stick and in messages.
pub const FILE: &str = "portcullis-seed.yaml";

shape! {
    /// Who sets the box up.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Seed {
        /// The first admin; nobody is asked for a code then.
        pub admin: Option<SeedAdmin> = None,
        /// The one-time code, instead of one that the box makes up. 15 to 64 letters, digits and hyphens.
        pub setup_code: Option<String> = None,
    }
}

shape! {
    /// The first admin.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SeedAdmin {
        pub name: String,
        /// `$argon2id$v=19$m=…`, as `argon2 SALT -id -m 14 -e` prints it. Never the password itself.
        pub password_hash: String,
    }
}

/// A seed file that can be used as a whole.
#[derive(Debug, Clone)]
pub struct Sown {
    pub seed: Seed,
    pub policy: Option<(Sources, Judged)>,
}

/// Everything that is wrong with it at once, or all of it.
pub fn sow(text: &str) -> Result<Sown, Problems> {
    let mut problems = Problems::default();
    let (mut seed, mut rest) = (None, String::new());
    for document in documents(text) {
        let part = &text[document.range.clone()];
        // Read twice: what is of another kind is judged below, with everything else that belongs to it.
        let root = parse(part, FILE, document.line, &mut Budget(MOST_NODES), &mut Problems::default()).ok().flatten();
        match root.filter(|root| kind(root) == Some("Seed")) {
            Some(_) if seed.is_some() => problems.at(&origin(document.line), "Seed", "a second one; keep one of them"),
            Some(root) => seed = Some(read(&root, &mut problems)),
            None => {
                rest.push_str(part);
                continue;
            }
        }
        // In its place stand empty lines, so that the policy's problems name the lines of the file.
        rest.push_str("---");
        rest.extend(std::iter::repeat_n('\n', part.matches('\n').count()));
    }
    if seed.is_none() {
        problems.at(
            &origin(1),
            "",
            format!("there is no document with `kind: Seed`; begin the file with one, `apiVersion: {API_VERSION}`"),
        );
    }
    let is_empty = rest.lines().all(|line| line.trim_start_matches("---").trim().is_empty() || line.trim_start().starts_with('#'));
    let policy = (!is_empty).then(|| {
        let sources = Sources::single(FILE, rest);
        judge(&sources).map(|judged| (sources, judged))
    });
    match (seed.flatten(), policy) {
        (Some(seed), None) if problems.is_empty() => Ok(Sown { seed, policy: None }),
        (Some(seed), Some(Ok(policy))) if problems.is_empty() => Ok(Sown { seed, policy: Some(policy) }),
        (_, policy) => {
            problems.0.extend(policy.and_then(Result::err).map(|problems| problems.0).unwrap_or_default());
            problems.sort();
            Err(problems)
        }
    }
}

fn kind<'n>(root: &'n Node) -> Option<&'n str> {
    let Value::Map(entries) = &root.value else { return None };
    match &entries.iter().find(|(key, _)| key.text == "kind")?.1.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn read(root: &Node, problems: &mut Problems) -> Option<Seed> {
    let mut cx = Cx::new(FILE, problems);
    let mut fields = Fields::of(root, &mut cx)?;
    fields.node("kind");
    let version = fields.take::<String>("api_version", None, &mut cx);
    if version.is_some_and(|version| version != API_VERSION) {
        cx.problem(root.line, format!("apiVersion must be {API_VERSION}"));
    }
    cx.enter_resource("Seed".into());
    let seed = fields.take::<Seed>("spec", None, &mut cx);
    fields.finish(&mut cx);
    let seed = seed?;
    if seed.admin.is_some() == seed.setup_code.is_some() {
        cx.problem(root.line, "give either admin or setupCode, so that exactly one way leads in");
    }
    let code_is_good =
        |code: &String| (15..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if seed.setup_code.as_ref().is_some_and(|code| !code_is_good(code)) {
        cx.problem(root.line, "setupCode must have 15 to 64 letters, digits and hyphens: whoever guesses it owns the box");
    }
    Some(seed)
}

fn origin(line: u32) -> Origin {
    Origin { file: FILE.into(), line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::starting_points;

    const SEED: &str = "apiVersion: portcullis/v1\nkind: Seed\nspec:\n  setupCode: ABCDE-FGHJK-MNPQR\n";

    #[test]
    fn a_seed_with_a_policy_is_used_as_a_whole() {
        let sown = sow(&format!("{SEED}---\n{}", starting_points()[0].text)).unwrap();
        assert_eq!(sown.seed.setup_code.as_deref(), Some("ABCDE-FGHJK-MNPQR"));
        assert!(sown.policy.is_some());
        assert!(sow(SEED).unwrap().policy.is_none(), "the guessed policy stays");
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_line() {
        let text = "apiVersion: portcullis/v1\nkind: Seed\nspec:\n  setupCode: short\n  pasword: x\n---\napiVersion: portcullis/v1\nkind: Zoen\nmetadata: { name: lan }\nspec: {}\n";
        let told = sow(text).unwrap_err().to_string();
        for wanted in ["15 to 64", "portcullis-seed.yaml:5", "pasword", "portcullis-seed.yaml:8", "Zoen"] {
            assert!(told.contains(wanted), "{wanted} is missing in:\n{told}");
        }
    }

    #[test]
    fn exactly_one_way_leads_in() {
        for spec in ["{}", "{ setupCode: ABCDE-FGHJK-MNPQR, admin: { name: ada, passwordHash: x } }"] {
            let told = sow(&format!("apiVersion: portcullis/v1\nkind: Seed\nspec: {spec}\n")).unwrap_err().to_string();
            assert!(told.contains("either admin or setupCode"), "{told}");
        }
        assert!(sow("").unwrap_err().to_string().contains("kind: Seed"));
    }
}
