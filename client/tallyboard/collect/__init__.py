"""What training threads do: reports are checked, packed and kept in memory until the sender comes."""
