#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::igmp_icmp_in(data));
