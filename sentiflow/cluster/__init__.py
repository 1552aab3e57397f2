"""Work on parts -> done by Ray, on this machine or a cluster; jobs -> submitted to one."""
