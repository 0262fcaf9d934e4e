"""The second tier: each node in a network namespace of its own, and a switch that loses packets.

Every namespace has one TUN device, and the process that holds the other ends of them all is
the switch: what one namespace sends, it hands to another, or loses, delays, doubles, or lets be
overtaken. So it is packets that go missing, below TCP, which notices and sends them again. It
takes root and `/dev/net/tun`, and no other tool or kernel module. The namespaces have no
names: they are gone with the processes in them, whatever those die of.
"""
