"""What people and CI do with stacks of many sites: act on one of them, and tell what became of each."""
