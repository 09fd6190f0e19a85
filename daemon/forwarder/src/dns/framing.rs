//! DNS over TCP: each message behind its length (RFC 1035 section 4.2.2, RFC 7766).

pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = message.len().min(usize::from(u16::MAX));
    let mut framed = Vec::with_capacity(2 + length);
    framed.extend_from_slice(&(length as u16).to_be_bytes());
    framed.extend_from_slice(&message[..length]);
    framed
}

/// Takes the first whole message out of what arrived.
pub fn take(arrived: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (length, rest) = arrived.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let message = rest.get(..length)?.to_vec();
    arrived.drain(..2 + length);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn in_whatever_pieces_messages_arrive_they_are_the_same(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6), size in 1usize..9) {
            let wire: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let (mut arrived, mut taken) = (Vec::new(), Vec::new());
            for piece in wire.chunks(size) {
                arrived.extend_from_slice(piece);
                while let Some(message) = take(&mut arrived) {
                    taken.push(message);
                }
            }
            prop_assert_eq!(taken, messages);
            prop_assert!(arrived.is_empty());
        }
    }
}
