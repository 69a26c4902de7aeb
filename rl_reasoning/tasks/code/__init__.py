"""Programs that a policy writes, checked by running them where they can do no harm and forge no verdict."""
