//! A stand-in for the phone-call server, and a generator of calls.
