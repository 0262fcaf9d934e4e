"""One process of the cluster: composes, translates and observes; decides nothing about tasks."""
