//! Packet scheduling: priorities and handles.

consts! { u32:
    /// Priority: best effort.
    TC_PRIO_BESTEFFORT = 0;
    /// Priority: filler.
    TC_PRIO_FILLER = 1;
    /// Priority: bulk.
    TC_PRIO_BULK = 2;
    /// Priority: interactive bulk.
    TC_PRIO_INTERACTIVE_BULK = 4;
    /// Priority: interactive.
    TC_PRIO_INTERACTIVE = 6;
    /// Priority: control.
    TC_PRIO_CONTROL = 7;
    /// Greatest priority.
    TC_PRIO_MAX = 15;
    /// The major half of a handle.
    TC_H_MAJ_MASK = 0xffff_0000;
    /// The minor half of a handle.
    TC_H_MIN_MASK = 0x0000_ffff;
    /// Handle: unspecified.
    TC_H_UNSPEC = 0;
    /// Handle: the root.
    TC_H_ROOT = 0xffff_ffff;
    /// Handle: ingress.
    TC_H_INGRESS = 0xffff_fff1;
    /// Handle: classifier and actions at both ends.
    TC_H_CLSACT = TC_H_INGRESS;
    /// Minor: mapped by priority.
    TC_H_MIN_PRIORITY = 0xffe0;
    /// Minor: ingress of the classifier.
    TC_H_MIN_INGRESS = 0xfff2;
    /// Minor: egress of the classifier.
    TC_H_MIN_EGRESS = 0xfff3;
}

/// The major half of a handle, in place.
pub const fn tc_h_maj(handle: u32) -> u32 {
    handle & TC_H_MAJ_MASK
}

/// The minor half of a handle.
pub const fn tc_h_min(handle: u32) -> u32 {
    handle & TC_H_MIN_MASK
}

/// The handle made of a major half, in place, and a minor half.
pub const fn tc_h_make(major: u32, minor: u32) -> u32 {
    (major & TC_H_MAJ_MASK) | (minor & TC_H_MIN_MASK)
}
