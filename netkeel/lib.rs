//! Netkeel: Linux's network stack as a library and a program.
