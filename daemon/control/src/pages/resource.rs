//! A form about one resource of the policy: into the candidate if what was typed is right, else back with every problem at its field.
//!
//! The forms keep no second model: what they write is the policy's own text, and `policy` judges it.

use policy::edit::{self, Refused};
use policy::name::Name;
use policy::{Problem, Problems, Sources};

use super::error::sentence;
use super::ui::{self, Field, ShownProblem};
use crate::candidate;
use crate::flash;
use crate::http::{Response, Visit};
use crate::trouble::Trouble;

/// What kind of resource a form is about.
pub struct Subject {
    pub kind: &'static str,
    /// Where the first of its kind is put.
    pub file: &'static str,
    /// The form's field for a place below `spec`: `schedule.from` → `from`.
    pub field: fn(&str) -> &str,
}

/// Why nothing was saved. What can be said at a field is said there, everything else above the form.
#[derive(Debug, Default)]
pub struct Refusal {
    pub trouble: Option<Trouble>,
    at: Vec<(String, ShownProblem)>,
    pub elsewhere: Vec<ShownProblem>,
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        // What was typed must not be lost because nobody answered.
        let trouble = if matches!(trouble, Trouble::ApplierAway(_)) { Trouble::Conflict(sentence(&trouble)) } else { trouble };
        Refusal { trouble: Some(trouble), ..Refusal::default() }
    }
}

impl Refusal {
    fn of(subject: &Subject, name: &Name, problems: &Problems, sources: &Sources) -> Self {
        let own = format!("{}/{name}.", subject.kind);
        let below = format!("{own}spec.");
        let mut refusal = Refusal::default();
        for (problem, mut shown) in problems.0.iter().zip(ui::problems(problems, sources, None)) {
            if problem.path.starts_with(&own) {
                // Its line was made from the form and stands in no file yet.
                (shown.place, shown.href, shown.excerpt) = (None, None, None);
            }
            match problem.path.strip_prefix(&below) {
                Some(place) => refusal.at.push(((subject.field)(place).to_owned(), shown)),
                None => refusal.elsewhere.push(shown),
            }
        }
        refusal
    }

    /// Whether it is about what was typed, so that the form is answered with an error.
    pub fn is_about_the_form(&self) -> bool {
        !self.at.is_empty() || !self.elsewhere.is_empty()
    }

    /// Puts each problem at its field. What has no field here is told above the form.
    pub fn mark(&mut self, fields: &mut [Field]) {
        for (name, shown) in std::mem::take(&mut self.at) {
            match fields.iter_mut().find(|field| field.name == name) {
                Some(field) => {
                    let error = field.error.get_or_insert_default();
                    if !error.is_empty() {
                        error.push(' ');
                    }
                    error.push_str(&told(&shown.message));
                }
                None => self.elsewhere.push(shown),
            }
        }
    }
}

/// A message of the policy as a sentence.
fn told(message: &str) -> String {
    let mut letters = message.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if message.ends_with(['.', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// The first part of a place: `clients[2]` → `clients`.
pub fn first(place: &str) -> &str {
    place.split(['.', '[']).next().unwrap_or(place)
}

/// The resource's text into the candidate. `before_saving` is done once the text was found right, and may still refuse.
pub fn write(
    visit: &Visit,
    subject: &Subject,
    name: &Name,
    new: bool,
    base: u64,
    text: &str,
    before_saving: impl FnOnce() -> Result<(), Trouble>,
) -> Result<Response, Refusal> {
    let candidate = candidate::get(visit.site)?;
    if candidate.version != base {
        return Err(candidate::changed_meanwhile().into());
    }
    let edited = if new {
        edit::insert(&candidate.sources, &home(subject, &candidate.sources), text)
    } else {
        edit::replace(&candidate.sources, subject.kind, name.as_str(), &(remarks(subject, name, &candidate.sources) + text))
    };
    let (edited, others) = judged(visit, subject, name, &candidate.sources, edited.map_err(refused)?)?;
    before_saving()?;
    let note = candidate::edited(subject.kind, name.as_str(), if new { "added" } else { "changed" }, base + 1);
    candidate::save_noted(visit.site, visit.actor()?, base, edited, note)?;
    Ok(if others {
        Response::see_other("/policies")
            .flash(flash::Tone::Warn, format!("{name} is saved, but the candidate has other problems and cannot be applied yet."))
    } else {
        Response::see_other("/policies/preview")
            .flash(flash::Tone::Ok, format!("{name} is saved in the candidate. This is what applying it changes."))
    })
}

/// The resource out of the candidate; refused while something else there needs it. `after` says what that means once applied.
pub fn remove(visit: &Visit, subject: &Subject, name: &Name, base: u64, after: &str) -> Result<Response, Refusal> {
    let candidate = candidate::get(visit.site)?;
    let edited = edit::delete(&candidate.sources, subject.kind, name.as_str()).map_err(refused)?;
    let (edited, others) = judged(visit, subject, name, &candidate.sources, edited)?;
    let note = candidate::edited(subject.kind, name.as_str(), "taken out", base + 1);
    candidate::save_noted(visit.site, visit.actor()?, base, edited, note)?;
    let to = if others { "/policies" } else { "/policies/preview" };
    Ok(Response::see_other(to).flash(flash::Tone::Warn, format!("{name} is no longer part of the candidate. {after}")))
}

/// Problems that stood there before are not this form's; it refuses what it would add. Says whether there are such others.
fn judged(visit: &Visit, subject: &Subject, name: &Name, before: &Sources, edited: Sources) -> Result<(Sources, bool), Refusal> {
    let judgements = &visit.site.judgements;
    let before = judgements.of(before);
    let none = Problems::default();
    let before = before.as_ref().as_ref().err().unwrap_or(&none);
    if let Err(problems) = &*judgements.of(&edited) {
        let stood = |problem: &&Problem| before.0.iter().any(|old| old.path == problem.path && old.message == problem.message);
        let new: Vec<Problem> = problems.0.iter().filter(|problem| !stood(problem)).cloned().collect();
        if !new.is_empty() {
            return Err(Refusal::of(subject, name, &Problems(new), &edited));
        }
    }
    Ok((edited, !before.is_empty()))
}

/// What somebody wrote directly above the resource stays there.
fn remarks(subject: &Subject, name: &Name, sources: &Sources) -> String {
    let entries = edit::resources(sources);
    let own = entries.iter().find(|entry| entry.kind == subject.kind && entry.name == name.as_str());
    let lines = own.into_iter().flat_map(|entry| entry.text.lines()).take_while(|line| line.starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// New ones go where others of their kind stand already, else into a file of their own.
fn home(subject: &Subject, sources: &Sources) -> String {
    let there = edit::resources(sources).into_iter().rfind(|entry| entry.kind == subject.kind).map(|entry| entry.file.to_owned());
    there.unwrap_or_else(|| subject.file.to_owned())
}

fn refused(refused: Refused) -> Trouble {
    match refused {
        Refused::AlreadyThere { .. } => Trouble::field("name", "is taken; choose another"),
        other => Trouble::Conflict(other.to_string()),
    }
}

pub fn named(text: &str) -> Result<Name, Trouble> {
    Name::try_from(text.trim()).map_err(|bad| Trouble::field("name", bad.to_string()))
}

/// The resource as text, up to its spec. Values are quoted as JSON, which is YAML: nothing that was typed can become structure.
pub fn head(kind: &str, name: &str, description: &str) -> Result<Vec<String>, Trouble> {
    let mut lines =
        vec!["apiVersion: portcullis/v1".to_owned(), format!("kind: {kind}"), "metadata:".to_owned(), format!("  name: {}", quoted(name)?)];
    let description = description.trim();
    if !description.is_empty() {
        lines.push(format!("  description: {}", quoted(description)?));
    }
    lines.push("spec:".to_owned());
    Ok(lines)
}

pub fn quoted(text: &str) -> Result<String, Trouble> {
    serde_json::to_string(text).map_err(|error| Trouble::Internal(error.to_string()))
}

/// What stands between blanks, commas and line ends, each quoted.
pub fn list(text: &str) -> Result<String, Trouble> {
    let items = text.split([',', '\n', '\r', ' ', '\t', ';']).filter(|item| !item.is_empty()).map(quoted).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("[{}]", items.join(", ")))
}

/// A text of several lines under a field.
pub fn block(field: &str, text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| format!("    {}", line.trim()));
    std::iter::once(format!("  {field}: |")).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_stand_at_their_fields_and_none_is_lost() {
        let subject = Subject { kind: "Upstream", file: "x.yaml", field: first };
        let problem = |path: &str, message: &str| Problem { origin: None, path: path.to_owned(), message: message.to_owned() };
        let problems = Problems(vec![
            problem("Upstream/a.spec.port", "0 is no port"),
            problem("Upstream/a.spec.port", "and no number"),
            problem("Upstream/a.spec.unknown[2]", "nobody knows it"),
            problem("Upstream/ab.spec.port", "another's"),
        ]);
        let mut refusal = Refusal::of(&subject, &Name::try_from("a").expect("a name"), &problems, &Sources::default());
        let mut fields = [Field::text("port", "Port", "0")];
        refusal.mark(&mut fields);
        assert_eq!(fields[0].error.as_deref(), Some("0 is no port. And no number."));
        let rest: Vec<_> = refusal.elsewhere.iter().map(|shown| shown.message.as_str()).collect();
        assert_eq!(rest, ["another's", "nobody knows it"]);
    }
}
