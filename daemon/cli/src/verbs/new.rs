//! `portcullis new`: a commented policy to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use policy::starting_points;

use super::say;
use crate::paint;
use crate::trouble::Trouble;

pub fn run(name: Option<&str>, output: Option<PathBuf>) -> Result<(), Trouble> {
    let Some(name) = name else { return list() };
    let Some(point) = starting_points().iter().find(|point| point.name == name) else {
        let names: Vec<_> = starting_points().iter().map(|point| point.name).collect();
        return Err(Trouble::Usage(format!("there is no starting point {name}; choose one of {}", names.join(", "))));
    };
    let Some(path) = output else { return say(point.text) };
    let failed = |error| Trouble::File(path.clone(), error);
    // Never over a policy that somebody wrote.
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    file.write_all(point.text.as_bytes()).map_err(failed)?;
    say(format!("{} is yours now: change it, then `portcullis check {0}`", path.display()))
}

fn list() -> Result<(), Trouble> {
    let paint = paint::for_stdout();
    starting_points().iter().try_for_each(|point| say(format!("{}  {}", paint.strong(&format!("{:14}", point.name)), point.summary)))
}
