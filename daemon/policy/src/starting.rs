//! Policies to begin with, complete and commented: the files of `examples/`.

/// A policy that someone can take and change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartingPoint {
    /// `small-office`, the file's name.
    pub name: &'static str,
    pub title: &'static str,
    /// For whom it is, in one sentence.
    pub summary: &'static str,
    pub text: &'static str,
}

/// From simple to demanding.
pub fn starting_points() -> &'static [StartingPoint] {
    &[
        StartingPoint {
            name: "home",
            title: "Home",
            summary: "One provider, one network inside: everyone reaches out, nothing reaches in.",
            text: include_str!("../../../examples/home.yaml"),
        },
        StartingPoint {
            name: "small-office",
            title: "Small office",
            summary: "Staff, visitors, a server that customers reach, and a port for administrators.",
            text: include_str!("../../../examples/small-office.yaml"),
        },
        StartingPoint {
            name: "enterprise",
            title: "Enterprise",
            summary: "Seven zones with public and internal servers, telephones and visitors; the box itself restricted.",
            text: include_str!("../../../examples/enterprise.yaml"),
        },
        StartingPoint {
            name: "proxy-gateway",
            title: "Proxy gateway",
            summary: "Each client reaches the world through the proxy that it is mapped to, or not at all.",
            text: include_str!("../../../examples/proxy-gateway.yaml"),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    #[test]
    fn every_starting_point_could_be_applied_and_describes_itself() {
        for point in starting_points() {
            let file = format!("{}.yaml", point.name);
            // Not only read and checked: its assertions are proved.
            let problems = crate::judge(&Sources::single(&file, point.text)).err().unwrap_or_default();
            assert!(problems.is_empty(), "{problems}");
            assert!(point.text.starts_with("# "), "{file} does not say what it is");
        }
    }
}
