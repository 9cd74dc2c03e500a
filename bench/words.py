"""Common English words, of which random prompts are made.

Plain text instead of random token ids: every server, whatever its tokenizer, gets the same prompt.
Nearly all of these words are one token (with the space before them) in the usual vocabularies.
"""

_TEXT = """
able about above across act add after again age ago agree air all allow almost alone along
already also always among amount and animal another answer any appear apple area arm army
around arrive art ask away baby back bad bag ball bank base be bear beat beauty because become
bed before begin behind believe bell below beside best better between beyond big bird black
blood blow blue board boat body bone book born both bottom box boy branch bread break bridge
bright bring brother brown build burn business busy buy call calm camp can capital captain
car card care carry case catch cause cell center chain chair chance change character charge
chart check chief child choose church circle city claim class clean clear climb clock close
cloth cloud coast coat cold collect color column come common company compare complete condition
consider contain continue control cook cool copy corn corner correct cost count country course
cover create cross crowd cry current cut dance danger dark day dead deal dear death decide deep
degree depend describe desert design develop differ dinner direct discuss distance divide
doctor dollar door double down draw dream dress drink drive drop dry during duty each ear early
earth east easy eat edge effect egg eight either electric else empty end enemy energy engine
enough enter equal especially even evening event ever every exact example except excite
exercise expect experience experiment explain eye face fact fair fall family famous far farm
fast father favor fear feed feel few field fight figure fill final find fine finger finish fire
first fish fit five floor flow flower fly follow food foot force forest form forward found four
fraction free fresh friend front fruit full fun game garden gas gather general gentle give glad
glass gold good govern grand grass gray great green ground group grow guess guide gun hair half
hand happen happy hard hat have head hear heart heat heavy help here high hill history hit hold
hole home hope horse hot hour house how huge human hundred hunt hurry ice idea imagine inch
include increase industry insect instant instrument interest invent iron island job join jump
just keep key kill kind king know lady lake land language large last late laugh law lay lead
learn least leave left leg length less let letter level lie life lift light like line liquid
list listen little live locate log lone long look lost lot loud love low machine made main
major make man many map mark market mass master match material matter may mean measure meat
meet melody metal method middle might mile milk million mind mine minute miss mix modern moment
money month moon more morning most mother motion mount mountain mouth move much multiply music
must name nation natural nature near necessary neck need neighbor never new next night nine
noise noon nor north nose note nothing notice noun now number object observe occur ocean off
offer office often oil old once one only open operate opposite order original other our out
over own oxygen page paint pair paper paragraph parent part particular party pass past path
pattern pay people perhaps period person phrase pick picture piece pitch place plain plan
plane planet plant play please plural poem point poor populate port pose position possible
post pound power practice prepare present press pretty print problem process produce product
proper property protect prove provide pull push put quart question quick quiet quite race radio
rail rain raise range rather reach read ready real reason receive record red region remember
repeat reply represent require rest result rich ride right ring rise river road rock roll room
root rope rose round row rub rule run safe sail salt same sand save say scale school science
score sea search season seat second section see seed seem segment select self sell send sense
sentence separate serve set settle seven several shape share sharp sheet shell shine ship shoe
shop shore short should shoulder shout show side sight sign silent silver similar simple since
sing single sister sit six size skill skin sky sleep slip slow small smell smile snow soft soil
soldier solution solve some son song soon sound south space speak special speech speed spell
spend spoke spot spread spring square stand star start state station stay steam steel step
stick still stone stop store story straight strange stream street stretch string strong student
study subject substance success such sudden suggest suit summer sun supply support sure surface
surprise swim symbol system table tail take talk tall teach team teeth tell temperature ten
term test thank then there thick thin thing think third this thought thousand three through
throw thus tie time tiny tire together tone tool top total touch toward town track trade train
travel tree triangle trip trouble truck true try tube turn twenty two type under unit until
usual valley value vary verb very view village visit voice wait walk wall want war warm wash
watch water wave way wear weather week weight west wheel when where whether which while white
whole why wide wife wild will win wind window winter wire wish with woman wonder wood word work
world write wrong yard year yellow yes yet young
"""

WORDS: tuple[str, ...] = tuple(_TEXT.split())
