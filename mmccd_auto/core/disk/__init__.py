"""Files and folders that several processes share: locks, workspaces, room, removal, hashes."""
