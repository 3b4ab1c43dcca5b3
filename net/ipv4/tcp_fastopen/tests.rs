//! Cookies, options, the table of servers.
