/// The attributes of a message or of a nested attribute, in the order in which they lie. Stops at the first that does not fit
/// into its surroundings.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

/// Without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const KIND: u16 = 0x3fff;

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind & KIND, value))
    }
}

impl<'a> Attributes<'a> {
    pub fn get(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// Empty when it is not there.
    pub fn inside(self, kind: u16) -> Attributes<'a> {
        Attributes(self.get(kind).unwrap_or(&[]))
    }

    pub fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).ok()
    }

    pub fn be32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub fn be64(self, kind: u16) -> Option<u64> {
        self.get(kind)?.try_into().ok().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_or_lying_attribute_ends_the_list() {
        for hostile in [&[0u8, 0, 1, 0][..], &[3, 0, 1, 0], &[200, 0, 1, 0, 9], &[8], &[8, 0, 1, 0, 1, 2]] {
            assert_eq!(Attributes(hostile).count(), 0, "{hostile:?}");
        }
    }
}
