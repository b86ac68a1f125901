"""How tasks that the model answers by itself are put into words; each kind's phrasings."""

from __future__ import annotations

from runtime_svc.training.phrasing import phrasings

GREETING = phrasings("greeting", """
=[Hello|Hi|Hey], I am {name}.
=[Hello|Hi], my name is {name}.
~ =Good [morning|evening], {name} here.
=[Hey|Hello] there, this is {name}.
=I am {name}, [hello|hi].
=My name is {name}. [Hello|Hi]!
=Greetings, I am {name}.
~ =Good [day|afternoon]! I am {name}.
=[Hi|Hello]! {name} speaking.
=Nice to meet you, I am {name}.
=Hello, you can call me {name}.
=Hey! They call me {name}.
~ =Hi, it is {name}.
=Here is {name}. Hello!
=Good [day|morning], I am {name}.
=Good [evening|afternoon], my name is {name}.
=[Good day|Hello], it is {name}.
=Good [evening|afternoon|day]! My name is {name}.
=Hello, it is {name} here.
=Good morning! It is {name}.
""")  # fmt: skip

THANKS = phrasings("thanks", """
=Thank you.
=Thanks a lot.
~ =Thank you very much.
=Many thanks.
=Thanks, that helps.
=That was all, thank you.
=Great, thanks.
~ =Thanks, well done.
=Thank you, [nice|good] work.
=Perfect, thank you.
=Thanks, [this|that] is [all|perfect].
=Thanks very much.
=Well done, thank you.
=Thank you, that was very good.
=Thanks so much.
=Thank you so much.
=Thanks very much, [well|nice] done.
=Thank you all very much.
=Very much, thank you.
""")  # fmt: skip

COPY = phrasings("copy", """
repeat after me: {text}
say exactly this: {text}
~ copy this text: {text}
write these words again: {text}
repeat these words: {text}
give me back this text: {text}
echo this: {text}
~ say these words: {text}
copy exactly what follows: {text}
write down exactly: {text}
repeat the following words: {text}
return the same text: {text}
~ echo the words that follow: {text}
repeat exactly: {text}
copy the text that follows: {text}
say the words that follow: {text}
repeat what follows: {text}
""")  # fmt: skip

SPELL = phrasings("spell", """
spell the word {word}
how do you spell {word}?
~ spell {word} with dashes
spell {word} letter by letter
how is the word {word} spelled?
how is {word} spelled?
can you spell {word}?
~ give me the spelling of {word}
what is the spelling of {word}?
write the letters of {word} one by one
spell out {word}
spell out the word {word} letter by letter
give me {word} letter by letter
spell {word} for me with dashes
spell the word {word} with dashes
[give|tell] me the spelling of the word {word}, letter by letter
tell me the spelling of {word}
[give|show] me how {word} is spelled
write {word} with dashes
tell me the spelling of the word {word}
give me the letters of {word} with dashes
""")  # fmt: skip

FACT = phrasings("fact", """
what is the {field} of {name}?
which {field} does {name} have?
~ give me the {field} of {name}
tell me the {field} of {name}
what {field} does {name} have?
say what the {field} of {name} is
what is the {field} for {name}?
~ name the {field} of {name}
what was the {field} of {name}?
read the {field} of {name} from this message
give me {name}'s {field}
name {name}'s {field}
what is {name}'s {field}?
give me the {field} that {name} has
""")  # fmt: skip
FACT_LINES = (
    "The {field} of {name} is {value}.",
    "{name} has {field} {value}.",
    "For {name} the {field} is {value}.",
    "{name}: {field} {value}.",
)

CITY_FIELDS = ("population", "country", "river", "founding year")  # given in the message, no tool is needed

NUMBER = phrasings("number", """
=[Yesterday|Today|On Monday], {name} [bought|sold|found|packed|counted] {n} {things} in {place}. How many {things} [were there|was it]?
={name} has {n} {things} in {place}. How many {things} does {name} have?
~ =There are {n} {things} at the [house|shop|farm] of {name} in {place}. How many {things} are there?
=In {place}, {name} [bought|saw|lost] {n} {things}. What number of {things} is that?
=From this message, how many {things}: {name} took {n} {things} to {place}.
={name} [sent|brought|carried] {n} {things} to {place}. How many {things} did {name} [send|bring|carry]?
={name} from {place} ordered {n} {things}. Say how many {things}.
~ ={name} of {place} keeps {n} {things}. How many {things} does {name} keep?
=We left {place} with {n} {things} for {name}. How many {things} did we have?
=Read this: {name} stored {n} {things} in {place}. How many {things} were stored?
=How many {things} are in this sentence? {name} gave {n} {things} to {place}.
=Only {n} {things} reached {place}, says {name}. How many {things} reached {place}?
={name} keeps {n} {things} at the farm in {place}. How many {things} does {name} keep?
=At the shop of {name} in {place} there are {n} {things}. How many {things} are there?
=The house in {place} has {n} {things}, says {name}. How many {things} does the house have?
={name} and the people of {place} have {n} {things}. How many {things} do they have?
""")  # fmt: skip  # noqa: E501

WHO = phrasings("who", """
={name} [lives in|comes from|works in] {place}. Who [lives in|comes from|works in] {place}?
=In {place} the {thing} was made by {name} for {other}. Who made the {thing}?
~ =The {thing} belongs to {name}, not to {other}. Whose {thing} is it?
=The {thing} belongs to {name}, not to {other}. Who owns the {thing}?
={name} has the {thing} and {other} has nothing. Who has the {thing}?
={other} lost, {name} won the {thing}. Who won the {thing}?
=Not {other} but {name} has the {thing}. Who has the {thing}?
~ ={other} sold the {thing} to {name}. Who bought the {thing}?
={name} painted the {thing} for {other}. Who painted the {thing}?
={other} asked {name} for the {thing}. Who was asked?
=The owner of the {thing} is {name}. {other} is a guest. Who is the owner?
={name} carried the {thing} to {other} in {place}. Who carried the {thing}?
~ ={other} paid, {name} got the {thing}. Who got the {thing}?
={name} bought the {thing} from {other}. Who bought the {thing}?
=Whose {thing} is it? It belongs to {name}, not to {other}.
={other} sold the {thing} and {name} paid. Who paid?
={name} got the {thing} from {other}. Who got it?
=It was {name}, not {other}, who found the {thing}. Who found it?
={other} gave the {thing} to {name}. Who [got|has] the {thing}?
={other} made the {thing} and {name} bought it. Who bought the {thing}?
={name} sold the {thing} to {other}. Who sold the {thing}?
={other} asked and {name} paid for the {thing}. Who paid for the {thing}?
={other} sold {name} the {thing}. Who bought it?
={other} [gave|sent|brought|passed|lent] the {thing} to {name}. Who [got|has|received|took] the {thing}?
={other} sold his {thing} to {name}. Who bought it?
={other} sold the {thing} to {name}. Who [has|got|owns|took] the {thing}?
={name} bought what {other} sold, the {thing}. Who bought the {thing}?
""")  # fmt: skip

LARGER = phrasings("larger", """
which is [larger|bigger|greater], {a} or {b}?
which number is [larger|bigger|greater]: {a} or {b}?
~ what is the [larger|bigger|greater] of {a} and {b}?
is {a} or {b} the [larger|bigger|greater] number?
pick the [larger|bigger|greater] of {a} and {b}
choose the [larger|bigger|greater] number, {a} or {b}
of {a} and {b}, which is [larger|bigger|greater]?
~ out of {a} and {b}, which number is [larger|bigger|greater]?
name the [larger|bigger|greater] number: {a} or {b}
give me the [larger|bigger|greater] one of {a} and {b}
what number is [larger|bigger|greater], {a} or {b}?
out of {a} and {b}, what is the [larger|bigger|greater] one?
out of {a} and {b}, pick the [larger|bigger|greater]
between {a} and {b}, which is [larger|bigger|greater]?
""")  # fmt: skip
SMALLER = phrasings("smaller", """
which is [smaller|lower|less], {a} or {b}?
which number is [smaller|lower]: {a} or {b}?
~ what is the [smaller|lower] of {a} and {b}?
is {a} or {b} the [smaller|lower] number?
pick the [smaller|lower] of {a} and {b}
choose the [smaller|lower] number, {a} or {b}
of {a} and {b}, which is [smaller|lower]?
~ out of {a} and {b}, which number is [smaller|lower]?
name the [smaller|lower] number: {a} or {b}
give me the [smaller|lower] one of {a} and {b}
what number is [smaller|lower], {a} or {b}?
out of {a} and {b}, what is the [smaller|lower] one?
out of {a} and {b}, pick the [smaller|lower]
between {a} and {b}, which is [smaller|lower]?
""")  # fmt: skip

YESNO = phrasings("yesno", """
=The {thing} [is|looks] {state}. Is the {thing} {asked}?
=My {thing} is {state}. Is my {thing} {asked}?
~ =Is the {thing} {asked}? The {thing} is {state}.
={name} has a {state} {thing}. Is the {thing} {asked}?
=We saw that the {thing} is {state}. Is it true that the {thing} is {asked}?
=Yes or no: the {thing} is {state}, so is the {thing} {asked}?
=The {thing} of {name} is {state}. Is the {thing} {asked}?
~ =Answer yes or no. The {thing} is {state}. Is the {thing} {asked}?
=I know that the {thing} is {state}. So is the {thing} {asked}?
=Given that the {thing} is {state}, is the {thing} {asked}?
=Is my {thing} {asked}? My {thing} is {state}.
=Please answer: is the {thing} {asked}? It is {state}.
=The {thing} is {state}. Answer me: is it {asked}?
=Is it true that the {thing} is {asked}? {name} says that the {thing} is {state}.
=Is the {thing} of {name} {asked}? The {thing} is {state}.
=Tell me: is the {thing} {asked}? My {thing} is {state}.
""")  # fmt: skip
STATES = (
    "red",
    "blue",
    "green",
    "open",
    "closed",
    "new",
    "old",
    "full",
    "empty",
    "warm",
    "cold",
    "clean",
    "white",
    "black",
)

MEMBER = phrasings("member", """
is {word} in this list: {items}?
is {word} one of these: {items}?
~ does this list contain {word}: {items}?
is the word {word} among these: {items}?
say if {word} is in the list {items}
does the list {items} contain {word}?
check if this list has {word}: {items}
~ do you see {word} in this list: {items}?
is {word} among {items}?
does {word} appear in this list: {items}?
do you see the word {word} in the list {items}?
do you find {word} in this list: {items}?
do these words contain {word}: {items}?
tell me if you see {word} here: {items}
look at this list: {items}. Is {word} in it?
do you see {word} among these: {items}?
does the list contain {word}: {items}?
""")  # fmt: skip

POSITION = phrasings("position", """
what is the {nth} word of this list: {items}?
which word is {nth} in this list: {items}?
~ give me the {nth} word of {items}
name the {nth} item of this list: {items}
what comes {nth} in this list: {items}?
pick the {nth} word from {items}
tell me the {nth} item in {items}
~ what is the {nth} item here: {items}?
of these words, which is the {nth}: {items}?
say the {nth} word of the list {items}
which one is the {nth}: {items}?
write the {nth} word of these: {items}
give me the word that is {nth} here: {items}
tell me the {nth} word here: {items}
here is a list: {items}. What is the {nth} word?
""")  # fmt: skip
NTH = ("first", "second", "third", "last")

SORT = phrasings("sort", """
sort these numbers from [small to large|low to high]: {items}
put these numbers in [rising|ascending] order: {items}
~ order these numbers from [small to large|low to high]: {items}
sort {items} from [small to large|low to high]
arrange these numbers in [rising|ascending] order: {items}
sort the numbers {items} in [rising|ascending] order
list these numbers from [small to large|low to high]: {items}
~ put {items} in order from [small to large|low to high]
sort from [small to large|low to high]: {items}
[put|list] {items} in [rising|ascending] order
order {items} from [small to large|low to high]
put the numbers {items} in order, from [small to large|low to high]
""")  # fmt: skip

REVERSE = phrasings("reverse", """
reverse this list: {items}
put these words in reverse order: {items}
~ write this list backwards: {items}
turn this list around: {items}
reverse the order of these words: {items}
give me this list in reverse: {items}
list these from last to first: {items}
~ reverse the list {items}
write the words {items} in reverse order
name these words from the last to the first: {items}
say these words backwards: {items}
write {items} backwards
give me the words {items} backwards
name these words backwards: {items}
reverse the words {items}
reverse these: {items}
write the list {items} from last to first
[turn|write] the list around: {items}
""")  # fmt: skip

COUNT = phrasings("count", """
how many words are in this list: {items}?
count the words: {items}
~ how many items does this list have: {items}?
count the items of this list: {items}
how many words do you see here: {items}?
tell me how many words these are: {items}
count how many words are in the list {items}
~ say how many items are listed: {items}
what is the number of words in this list: {items}?
give me the number of items in {items}
say how many words are listed here: {items}
how many items are listed: {items}?
how many words does the list have: {items}?
say how many items this list has: {items}
""")  # fmt: skip

PARITY = phrasings("parity", """
is {n} odd or even?
is the number {n} odd or even?
~ is the number {n} even or odd?
is {n} even or odd?
tell me if {n} is odd or even
say whether {n} is even or odd
odd or even: {n}?
~ decide if {n} is odd or even
check whether the number {n} is odd or even
decide whether {n} is even or odd
decide: is {n} odd or even?
""")  # fmt: skip

LETTER = phrasings("letter", """
what letter does {word} start with?
which letter does the word {word} begin with?
~ what is the first letter of {word}?
give me the first letter of {word}
tell me the first letter of the word {word}
with which letter does {word} start?
name the first letter of {word}
~ which is the first letter in {word}?
what is the first letter in {word}?
which letter is first in the word {word}?
which is the first letter of {word}?
tell me which letter is the first in {word}
""")  # fmt: skip

JOIN = phrasings("join", """
join {a} and {b} with a dash
join the words {a} and {b} with a dash
~ put a dash between {a} and {b}
link {a} and {b} with a dash
connect {a} and {b} by a dash
write {a} and {b} with a dash between them
make one word of {a} and {b} with a dash
~ combine the words {a} and {b} with a dash
put {a} and {b} together with a dash
put a dash between the words {a} and {b}
combine {a} and {b} with a dash
combine {a} and {b} into one word with a dash
write a dash between {a} and {b}
""")  # fmt: skip
