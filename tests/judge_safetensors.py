"""Writes damaged safetensors files into a folder, and to verdicts.txt whether Python's safetensors package accepts each.

Left out: what the package accepts against the format's text (duplicate keys, a header that does not begin with "{"), its
dtypes that Riffle refuses by name, and empty tensors whose other extents overflow, which Riffle accepts.
Usage: judge_safetensors.py FOLDER (see check_safetensors_python.sh)
"""
import json
import os
import random
import struct
import sys

from safetensors import SafetensorError, deserialize

VALID = [
    '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    '{"a":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},'
    '"c":{"dtype":"BF16","shape":[],"data_offsets":[4,6]}}',
    '{"__metadata__":{"k":"v"},"x":{"dtype":"BOOL","shape":[0,3],"data_offsets":[0,0]}}',
]
PIECES = ['"F32"', '"I64"', '"F8_E4M3"', "null", "0", "1", "4", "-1", "1.0", "1e0", "-0", "true", '""', "[]", "{}", "[0,4]",
          "18446744073709551615", "18446744073709551616", '"dtype"', '"shape"', ",", ":", "[", "]", "{", "}", " ", "\n",
          '"\\u00e9"', '"\\ud800"', "\0", '"x":1,', '"__metadata__":']


def mutate(header, random_):
    for _ in range(random_.randint(0, 3)):
        begin = random_.randrange(1, len(header) + 1)
        end = min(len(header), begin + random_.choice((0, 0, 1, 1, 3)))
        header = header[:begin] + random_.choice(PIECES + ["", "", ""]) + header[end:]
    return header


def has_duplicates(text):
    def check(pairs):
        if len({key for key, _ in pairs}) < len(pairs):
            raise KeyError
    try:
        json.loads(text, object_pairs_hook=check)
    except KeyError:
        return True
    except ValueError:
        pass
    return False


def overflows(text):
    return "1844674407370955161" in text


def main():
    folder, random_ = sys.argv[1], random.Random(1)
    with open(os.path.join(folder, "verdicts.txt"), "w") as verdicts:
        for number in range(3000):
            header = mutate(random_.choice(VALID), random_)
            if not header.startswith("{") or has_duplicates(header) or overflows(header) and "[0" in header:
                continue
            data = header.encode()
            data = struct.pack("<Q", len(data) + random_.choice((0,) * 20 + (-1, 1))) + data
            data += bytes(random_.choice((0, 4, 4, 6, 6, 8)))
            try:
                deserialize(data)
                verdict = "accepted"
            except SafetensorError:
                verdict = "refused"
            name = f"judged{number}.safetensors"
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
            verdicts.write(f"{name} {verdict}\n")


if __name__ == "__main__":
    main()
