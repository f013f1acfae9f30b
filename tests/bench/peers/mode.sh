# Functions of a cell that nobody manages.
prepare() { :; }
manage() { :; }
before() { :; }
after() { :; }
