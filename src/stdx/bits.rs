//! Sets of named bits in one integer, declared by one macro.
//!
//! A set is a plain value: `Copy`, compared and combined by one instruction. Code outside cannot create a bit without
//! a name.

/// Declares a set of named bits over an unsigned integer.
///
/// ```
/// spinel::stdx::bits::bit_set! {
///     /// What a door may be.
///     pub struct Door: u8 {
///         /// Nobody needs a key.
///         OPEN = 0;
///         PAINTED = 1;
///     }
/// }
/// let mut door = Door::NONE.with(Door::OPEN);
/// door.set(Door::PAINTED, true);
/// assert!(door.has(Door::OPEN) && door.covers(Door::OPEN | Door::PAINTED));
/// assert!(door.without(Door::OPEN) == Door::PAINTED);
/// ```
///
/// With a text behind each bit, the set also has `NAMES` and `names()`. A bit with an empty text is not shown.
#[macro_export]
#[doc(hidden)]
macro_rules! __bit_set {
    (@type $(#[$meta:meta])* $vis:vis $type:ident: $repr:ty) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        $vis struct $type($repr);

        #[allow(dead_code, unreachable_pub, reason = "each set has all operations, and goes as far as its type")]
        impl $type {
            /// No bit.
            pub const NONE: $type = $type(0);

            /// Whether the two sets have a bit in common.
            #[inline]
            pub const fn has(self, other: $type) -> bool {
                self.0 & other.0 != 0
            }
            /// Whether every bit of `other` is in this set.
            #[inline]
            pub const fn covers(self, other: $type) -> bool {
                self.0 & other.0 == other.0
            }
            /// The bits as an integer.
            #[inline]
            pub const fn bits(self) -> $repr {
                self.0
            }
            /// Whether no bit is in this set.
            #[inline]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }
            /// The bits of both sets.
            #[inline]
            pub const fn with(self, other: $type) -> $type {
                $type(self.0 | other.0)
            }
            /// The bits of this set that are not in `other`.
            #[inline]
            pub const fn without(self, other: $type) -> $type {
                $type(self.0 & !other.0)
            }
            /// The bits that are in both sets.
            #[inline]
            pub const fn and(self, other: $type) -> $type {
                $type(self.0 & other.0)
            }
            /// Adds or removes bits.
            #[inline]
            pub const fn set(&mut self, which: $type, on: bool) {
                if on { self.0 |= which.0 } else { self.0 &= !which.0 }
            }
        }

        impl std::ops::BitOr for $type {
            type Output = $type;
            #[inline]
            fn bitor(self, other: $type) -> $type {
                self.with(other)
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $type:ident: $repr:ty {
        $($(#[$doc:meta])* $name:ident = $bit:expr;)*
    }) => {
        $crate::__bit_set!(@type $(#[$meta])* $vis $type: $repr);

        #[allow(dead_code, unreachable_pub, reason = "each bit goes as far as its set")]
        impl $type {
            $($(#[$doc])* pub const $name: $type = $type(1 << $bit);)*
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $type:ident: $repr:ty {
        $($(#[$doc:meta])* $name:ident = $bit:expr, $text:expr;)*
    }) => {
        $crate::__bit_set!(@type $(#[$meta])* $vis $type: $repr);

        #[allow(dead_code, unreachable_pub, missing_docs, reason = "each bit goes as far as its set; its text names it")]
        impl $type {
            $($(#[$doc])* pub const $name: $type = $type(1 << $bit);)*
            /// Every bit with the name that clients see; an empty name is not shown.
            pub const NAMES: &'static [($type, &'static str)] = &[$(($type::$name, $text),)*];

            /// The names of the set bits, in the order of their declaration.
            pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
                let shown = move |&&(bit, name): &&($type, &'static str)| self.has(bit) && !name.is_empty();
                Self::NAMES.iter().filter(shown).map(|&(_, name)| name)
            }
        }
    };
}

pub use crate::__bit_set as bit_set;

#[cfg(test)]
mod tests {
    use super::bit_set;

    bit_set! {
        /// Bits with names.
        struct Named: u32 {
            FIRST = 0, "first";
            HIDDEN = 1, "";
            LAST = 31, "last";
        }
    }

    #[test]
    fn names_come_in_order_and_empty_ones_are_left_out() {
        let all = Named::LAST | Named::HIDDEN | Named::FIRST;
        assert_eq!(all.names().collect::<Vec<_>>(), ["first", "last"]);
        assert_eq!(Named::NONE.names().count(), 0);
        assert!(Named::NONE.is_empty() && !all.is_empty());
        assert_eq!(all.and(Named::LAST), Named::LAST);
        assert!(!Named::FIRST.covers(all));
    }
}
