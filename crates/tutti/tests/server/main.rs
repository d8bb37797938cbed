//! The real binary, started as people start it, and asked over its sockets. Names no crate of ours but for making and
//! checking pictures.

mod client;
mod damage;
mod house;
mod origin;
mod picture;
mod procfs;

mod administration;
mod assets;
mod bad_input;
mod bad_requests;
mod capacity;
mod command_line;
mod drain;
mod engines;
mod flights;
mod folders;
mod negotiation;
mod origins;
mod privileges;
mod purging;
mod restart;
mod signed;
mod walk;
