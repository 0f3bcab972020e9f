//! One configuration at a time, swapped whole.
