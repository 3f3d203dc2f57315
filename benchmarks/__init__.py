"""Measures jaxnorm beside other libraries: time, memory and compile time; see README.md in this folder."""
