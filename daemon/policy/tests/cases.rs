//! Small folders named for a behaviour: `cases/<area>/<behaviour>/`, `config.yaml` in, `problems.txt` or `plan.txt` out.
//!
//! With a `questions.txt` beside it (one a line: `lan:192.168.2.10 1.1.1.1 tcp/443 [mon 12:00]`) the answers are in `explained.txt`; with a
//! `before.yaml`, what changes from it to `config.yaml` is in `changes.txt`.
//! Policies with assertions are proved.
//!
//! A config without a System of its own stands on `cases/base.yaml`, so that it shows only what it is about.
//! `UPDATE=1 cargo test -p policy --test cases` writes the outputs anew; read the diff before committing it.

use std::fs;
use std::path::{Path, PathBuf};

use policy::{Judged, Query, Sources, judge};

#[test]
fn cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let base = fs::read_to_string(root.join("base.yaml")).unwrap();
    let folders = folders_with_config(&root);
    let mut wrong = Vec::new();
    for folder in &folders {
        let (file, found) = outcome(folder, &base);
        let other = if file == "problems.txt" { "plan.txt" } else { "problems.txt" };
        if std::env::var_os("UPDATE").is_some() {
            fs::write(folder.join(file), &found).unwrap();
            let _ = fs::remove_file(folder.join(other));
            continue;
        }
        let expected = fs::read_to_string(folder.join(file)).unwrap_or_default();
        if expected != found || folder.join(other).exists() {
            let name = folder.strip_prefix(&root).unwrap().join(file);
            wrong.push(format!("== {}\n-- expected\n{expected}-- found\n{found}", name.display()));
        }
    }
    assert!(!folders.is_empty());
    assert!(wrong.is_empty(), "{} of {} cases differ (UPDATE=1 writes them anew)\n{}", wrong.len(), folders.len(), wrong.join("\n"));
}

/// What a case's policy leads to: problems, or else what the other files of its folder ask for.
fn outcome(folder: &Path, base: &str) -> (&'static str, String) {
    let text = fs::read_to_string(folder.join("config.yaml")).unwrap();
    let judged = match judge(&sources(&text, base)) {
        Err(problems) => return ("problems.txt", problems.to_string()),
        Ok(judged) => judged,
    };
    if let Ok(questions) = fs::read_to_string(folder.join("questions.txt")) {
        return ("explained.txt", questions.lines().map(|question| explained(&judged, question)).collect::<Vec<_>>().join("\n"));
    }
    if let Ok(before) = fs::read_to_string(folder.join("before.yaml")) {
        let before = judge(&sources(&before, base)).unwrap_or_else(|problems| panic!("{}: before.yaml: {problems}", folder.display()));
        return ("changes.txt", policy::changes(&before.plan, &judged.plan).to_string());
    }
    ("plan.txt", relevant(&judged.plan.to_string(), &text))
}

fn sources(text: &str, base: &str) -> Sources {
    let mut sources = Sources::single("config.yaml", text);
    if !text.contains("kind: System") {
        sources.0.insert("base.yaml".to_owned(), base.to_owned());
    }
    sources
}

fn explained(judged: &Judged, question: &str) -> String {
    let mut words = question.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_default();
    let query = Query::parse(word(), word(), word(), words.next());
    let answer = query.and_then(|query| policy::explain(&judged.checked, &judged.plan, &query));
    format!("? {question}\n{}", answer.map_or_else(|bad| format!("{bad}\n"), |explanation| explanation.to_string()))
}

/// A first line `# plan: routes, chain fwd_lan_wan, set a4_servers` keeps only these sections and these pieces of the ruleset, in the
/// plan's order; without it the whole plan is compared.
fn relevant(plan: &str, config: &str) -> String {
    let Some(words) = config.lines().next().and_then(|line| line.strip_prefix("# plan:")) else {
        return plan.to_owned();
    };
    let words: Vec<&str> = words.split(',').map(str::trim).collect();
    let (mut kept, mut keep_section, mut keep_piece) = (String::new(), false, false);
    for line in plan.lines() {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            keep_section = words.contains(&section);
        }
        // Sets, maps and chains stand one tab deep.
        if let Some(piece) = line.strip_prefix('\t').and_then(|line| line.strip_suffix(" {")) {
            keep_piece |= words.contains(&piece);
        }
        if (keep_section || keep_piece) && !line.is_empty() {
            kept += &format!("{line}\n");
        }
        keep_piece &= line != "\t}";
    }
    kept
}

fn folders_with_config(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        if folder.join("config.yaml").exists() {
            found.push(folder);
            continue;
        }
        open.extend(fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()));
    }
    found.sort();
    found
}
