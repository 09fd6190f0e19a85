/// Bytes of `struct nlmsghdr` (include/uapi/linux/netlink.h).
pub const HEADER: usize = 16;

/// NLA_F_NESTED: the attribute holds attributes.
const NESTED: u16 = 0x8000;

/// Netlink messages, one behind the other in one buffer, as `send` takes them. Nothing is allocated for each attribute.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    /// Where the message that is being written begins.
    start: usize,
}

impl Messages {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the messages and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Begins a message; `body` is the family's fixed header. Ends with [`Messages::end`].
    pub fn begin(&mut self, kind: u16, flags: u16, seq: u32, body: &[u8]) {
        self.start = self.bytes.len();
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(body);
        self.pad();
    }

    pub fn end(&mut self) {
        let length = (self.bytes.len() - self.start) as u32;
        self.bytes[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Bytes of the message that is being written.
    pub fn message_len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Asks for an answer to the message that was written last.
    pub fn want_ack(&mut self) {
        let flags = u16::from_ne_bytes([self.bytes[self.start + 6], self.bytes[self.start + 7]]) | libc::NLM_F_ACK as u16;
        self.bytes[self.start + 6..self.start + 8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// Asks for no answer to the message that is being written.
    pub fn drop_ack(&mut self) {
        let flags = u16::from_ne_bytes([self.bytes[self.start + 6], self.bytes[self.start + 7]]) & !(libc::NLM_F_ACK as u16);
        self.bytes[self.start + 6..self.start + 8].copy_from_slice(&flags.to_ne_bytes());
    }

    pub fn put(&mut self, kind: u16, value: &[u8]) {
        self.header(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A text with its closing zero.
    pub fn text(&mut self, kind: u16, text: &str) {
        self.header(kind, text.len() + 1);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    /// netfilter writes its numbers in network order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    pub fn be64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// An attribute that holds what `inside` writes.
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let at = self.open(kind);
        inside(self);
        self.close(at);
    }

    /// Opens a nested attribute; [`Messages::close`] takes what this returns.
    pub fn open(&mut self, kind: u16) -> usize {
        let at = self.bytes.len();
        self.header(kind | NESTED, 0);
        at
    }

    pub fn close(&mut self, at: usize) {
        let length = (self.bytes.len() - at) as u16;
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Lets another encoder write one whole message behind the others: `write` gets room for at least `room` bytes and must
    /// fill a message that begins with its `nlmsghdr`.
    ///
    /// # Safety
    /// `write` must write such a message, no longer than `room`, with its length in the header.
    pub unsafe fn foreign(&mut self, room: usize, write: impl FnOnce(*mut u8)) {
        self.start = self.bytes.len();
        self.bytes.reserve(room);
        write(self.bytes.spare_capacity_mut().as_mut_ptr().cast());
        // SAFETY: the four bytes lie in the room just reserved, and the caller promises that `write` filled them.
        let length = unsafe { self.bytes.as_ptr().add(self.start).cast::<u32>().read_unaligned() } as usize;
        assert!(length >= HEADER && length <= room, "a message of {length} bytes in room for {room}");
        // SAFETY: `length` bytes from `start` on are within the capacity and were written.
        unsafe { self.bytes.set_len(self.start + length) };
        self.pad();
    }

    fn header(&mut self, kind: u16, value: usize) {
        let length = (value + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        let rest = self.bytes.len() % 4;
        if rest != 0 {
            self.bytes.extend_from_slice(&[0; 3][..4 - rest]);
        }
    }
}
