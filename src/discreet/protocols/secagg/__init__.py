"""Secure aggregation: a server learns the sum of clients' vectors, and nothing else of any of them.

Bonawitz et al. 2017, in the version for malicious servers, on the sparse graph of Bell et al. 2020. Two state machines,
`client.Client` and `server.Server`; who calls them moves the messages. A client may be lost before, within or after
each stage:

=========  ============================================  ==================================================
stage      a client sends                                the server sends back, to each
=========  ============================================  ==================================================
           (nothing)                                     `Terms`: what is summed, of whom, how many must stay
ADVERTISE  `Advertisement`: two public keys, signed      `Cohort`: everybody's, of neighbours in full
SHARE      `Shares`: its secrets, sealed for neighbours  `Delivery`: those that were sealed for it
MASK       `Masked`: its vector under all its masks      `Survivors`: whose vectors came, and whose did not
CONFIRM    `Confirmation`: its signature of that         `Confirmations`: its neighbours' signatures
REVEAL     `Revealed`: a share for each neighbour        (nothing: the server has the sum)
=========  ============================================  ==================================================

Each pair of neighbours shares a mask that one adds and the other subtracts, so they cancel in the sum; each client adds
a mask of its own besides. Of a client whose vector came, the own mask is rebuilt from its neighbours' shares; of one
whose vector did not come, the masks with its neighbours: never both.

What a client enforces by itself, whatever the server says: the digest of what is computed is its own; the roster of
signing keys is the one that it knows; the cohort, the survivors, the neighbours and the threshold are no fewer than its
`Policy` asks; its neighbours' keys are signed by them, for this session; nobody is both alive and dropped, and nobody
could be cut off by who is; a threshold of its neighbours signed the same list of survivors before it reveals a share;
and each stage happens once. A broken rule ends its part.

Formal guarantee, and against whom: ``client.md``.

===========================  =========================================================================================
edge case                    behaviour
===========================  =========================================================================================
a client is lost             its stage is closed without it; the sum is of those whose vectors came
too few are left             `TooFewLeft`; the server has learnt nothing, and what was paid stays paid
a share is forged            found out by the commitments in the advertisement; other shares are tried, then
                             `ProtocolError`
a vector is not what it is   cannot be seen under the mask: it moves the sum by whatever it holds (``client.md``)
sums beyond the ring         `Ring.capacity` is held against the plan before; the sum would be wrong, and tell no more
===========================  =========================================================================================
"""
