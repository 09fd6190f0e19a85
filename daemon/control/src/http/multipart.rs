//! `multipart/form-data` (RFC 7578): the form that carries a file. Bodies are whole and bounded before they come here.

use super::fields::MAX_FIELDS;
use crate::trouble::Trouble;

/// Names and values in order. A file is a value like any other; what the browser calls it stands under `<name>.filename`.
pub fn parse(content_type: &str, body: &[u8]) -> Result<Vec<(String, String)>, Trouble> {
    let boundary = boundary(content_type).ok_or_else(|| wrong("names no boundary"))?;
    let mark = [b"--", boundary.as_bytes()].concat();
    let mut rest = body.strip_prefix(mark.as_slice()).ok_or_else(|| wrong("does not begin with its boundary"))?;
    let between = [b"\r\n", mark.as_slice()].concat();
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        let part = rest.strip_prefix(b"\r\n").ok_or_else(|| wrong("has something behind a boundary"))?;
        let end = find(part, &between).ok_or_else(|| wrong("ends within a part"))?;
        let (head, content) = split(&part[..end]).ok_or_else(|| wrong("has a part without a head"))?;
        let name = parameter(&head, "name").ok_or_else(|| wrong("has a part without a name"))?;
        if let Some(file) = parameter(&head, "filename") {
            fields.push((format!("{name}.filename"), file));
        }
        let text = String::from_utf8(content.to_vec()).map_err(|_| Trouble::field(name.clone(), "is not UTF-8 text"))?;
        fields.push((name, text));
        if fields.len() > MAX_FIELDS {
            return Err(wrong("has too many parts"));
        }
        rest = &part[end + between.len()..];
    }
    Ok(fields)
}

fn wrong(what: &str) -> Trouble {
    Trouble::field("form", what)
}

/// Up to 70 characters (RFC 2046 section 5.1.1).
pub fn boundary(content_type: &str) -> Option<String> {
    parameter(content_type, "boundary").filter(|boundary| (1..=70).contains(&boundary.len()))
}

/// Head and content of one part, without the empty line between.
fn split(part: &[u8]) -> Option<(String, &[u8])> {
    let end = find(part, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&part[..end]).ok()?;
    let line = head.split("\r\n").find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    Some((line.to_owned(), &part[end + 4..]))
}

/// `name="value"` or `name=value`. Browsers write a quote inside as %22, so the next quote ends it.
fn parameter(text: &str, name: &str) -> Option<String> {
    let value = text.split(';').skip(1).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))?;
    let value = value.strip_prefix('"').map_or(value, |quoted| quoted.split('"').next().unwrap_or(quoted));
    Some(value.to_owned())
}

pub fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=----x";

    #[test]
    fn a_file_arrives_with_its_name_and_its_bytes() {
        let body = b"------x\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\ntok\r\n------x\r\nContent-Disposition: form-data; \
            name=\"file\"; filename=\"a.yaml\"\r\nContent-Type: application/yaml\r\n\r\nkind: Zone\r\n--\r\n\r\n------x--\r\n";
        let fields = parse(TYPE, body).unwrap();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(fields, [("csrf", "tok"), ("file.filename", "a.yaml"), ("file", "kind: Zone\r\n--\r\n")]);
    }

    #[test]
    fn what_is_cut_or_garbled_is_refused() {
        let whole = b"------x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n------x--\r\n";
        assert!(parse(TYPE, whole).is_ok());
        for end in 0..whole.len() - 4 {
            assert!(parse(TYPE, &whole[..end]).is_err(), "cut at {end} passed");
        }
        let not_text = b"------x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\xff\r\n------x--\r\n";
        assert!(parse(TYPE, not_text).is_err());
        assert!(parse("multipart/form-data", whole).is_err());
    }
}
