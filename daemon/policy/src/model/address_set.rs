use super::Address;
use crate::name::Name;
use crate::shape::shape;

shape! {
    /// Addresses under a name. Both families may mix; overlapping entries are merged.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AddressSet {
        /// Single addresses, prefixes and ranges.
        pub addresses: Vec<Address> = Vec::new(),
        /// Other sets whose addresses belong to this one too. Never in a circle.
        pub include: Vec<Name> = Vec::new(),
    }
}
