//! Places for a worker's flows, and keys to them that are never valid for a successor.

/// Which flow, and in the lowest bit which of its two sockets. What epoll gives back with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    pub fn of(token: u64) -> Key {
        Key(token & !1)
    }

    pub fn token(self) -> u64 {
        self.0
    }

    /// For an event of the socket to the upstream.
    pub fn upstream_token(self) -> u64 {
        self.0 | 1
    }

    fn new(place: usize, turn: u32) -> Key {
        Key(u64::from(turn) << 32 | (place as u64) << 1)
    }

    fn place(self) -> usize {
        (self.0 as u32 >> 1) as usize
    }

    fn turn(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

pub fn is_upstream(token: u64) -> bool {
    token & 1 == 1
}

pub struct Slots<T> {
    places: Vec<Slot<T>>,
    free: Vec<usize>,
}

struct Slot<T> {
    /// Counts who has had the place.
    turn: u32,
    held: Option<T>,
}

impl<T> Slots<T> {
    pub fn new() -> Slots<T> {
        Slots { places: vec![], free: vec![] }
    }

    /// The key that the next `insert` will give.
    pub fn next(&mut self) -> Key {
        if self.free.is_empty() {
            self.free.push(self.places.len());
            self.places.push(Slot { turn: 0, held: None });
        }
        let place = self.free.last().copied().unwrap_or(0);
        Key::new(place, self.places.get(place).map_or(0, |slot| slot.turn))
    }

    pub fn insert(&mut self, held: T) -> Key {
        let key = self.next();
        self.free.pop();
        if let Some(slot) = self.places.get_mut(key.place()) {
            slot.held = Some(held);
        }
        key
    }

    pub fn get(&mut self, key: Key) -> Option<&mut T> {
        self.places.get_mut(key.place()).filter(|slot| slot.turn == key.turn())?.held.as_mut()
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.places.get_mut(key.place()).filter(|slot| slot.turn == key.turn())?;
        let held = slot.held.take()?;
        // Never a turn whose token could be one of the listeners'.
        slot.turn = (slot.turn + 1) % (u32::MAX - 1);
        self.free.push(key.place());
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_one_that_is_gone_opens_nothing() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(first.place(), second.place());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get(second), Some(&mut "second"));
        assert_eq!(Key::of(second.upstream_token()), second);
        assert!(is_upstream(second.upstream_token()) && !is_upstream(second.token()));
    }

    #[test]
    fn the_next_key_is_told_before() {
        let mut slots = Slots::new();
        for round in 0..10 {
            let told = slots.next();
            assert_eq!(slots.insert(round), told);
            if round % 3 == 0 {
                slots.remove(told);
            }
        }
    }
}
