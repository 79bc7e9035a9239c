"""From a tree of CT files to studies of a store: finding, mending headers, organs, resampling"""
