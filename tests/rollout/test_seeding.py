from r1mega.rollout.seeding import sample_seed


def test_a_seed_is_the_first_63_bits_of_sha256_over_the_json_list():
    # printf '[0, 1, "ab", 2]' | sha256sum  ->  f78eb172bf249b95...; shifted right by one bit.
    assert sample_seed(0, 1, "ab", 2) == 0xf78eb172bf249b95 >> 1


def test_every_part_counts_and_seeds_fit_a_signed_int64():
    base = (3, 5, "00ff00ff00ff00ff", 7)
    others = [(4, *base[1:]), (3, 6, *base[2:]), (3, 5, "00ff00ff00ff00fe", 7), (*base[:3], 8)]
    seeds = {sample_seed(*parts) for parts in [base, *others]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len({sample_seed(0, step, "p", index) for step in range(100) for index in range(100)}) == 10_000
