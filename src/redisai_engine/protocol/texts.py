"""
The error texts of RedisAI 1.2.7, letter for letter, as the recorded transcripts show them.

Some lack Redis' prefix "ERR", and some are misspelled. Clients match on these texts, so they stay. The few texts that
are the engine's own are marked.
"""

from __future__ import annotations

ARITY = "ERR wrong number of arguments for '%s' command"
ARITY_IN_DAG = "wrong number of arguments for '%s' command"
DAG_ARITY = "ERR missing arguments for '%s' command"
IN_TRANSACTION = "ERR Cannot run RedisAI command within a transaction or a LUA script"

# Tensors
TENSOR_MISSING = "ERR tensor key is empty or in a different shard"
BAD_DTYPE = "ERR invalid data type"
BAD_SHAPE = "ERR invalid or negative value found in tensor shape"
TOO_MANY_DIMENSIONS = "ERR a tensor has at most 32 dimensions"  # ours: RedisAI crashes somewhere above
BAD_VALUE = "ERR invalid value"
BAD_VALUE_COUNT = "ERR wrong number of values was given in 'AI.TENSORSET' command"
BAD_BLOB_COUNT = "ERR a single binary string should come after the BLOB argument in 'AI.TENSORSET' command"
BAD_BLOB_SIZE = "ERR data length does not match tensor shape and type"
BAD_STRING_COUNT = "ERR Number of string elements in data blob does not match tensor length"
BAD_BOOL = "ERR BOOL tensor elements must be 0 or 1"
ZERO_BYTE = "ERR C-string value contains null character"
BAD_FORMAT = "ERR unsupported data format"
BLOB_AND_VALUES = "ERR both BLOB and VALUES specified"

# Models
MODEL_MISSING = "ERR model key is empty"
BAD_BACKEND = "ERR unsupported backend"
BAD_DEVICE = "ERR Invalid DEVICE"
UNSUPPORTED_DEVICE = "ERR unsupported device"
BAD_OPTION = "ERR Invalid argument for %s"
MIN_WITHOUT_BATCH = "ERR MINBATCHSIZE specified without BATCHSIZE"
TIMEOUT_WITHOUT_BATCH = "ERR MINBATCHTIMEOUT specified without BATCHSIZE"
TFLITE_BATCHING = "ERR Auto-batching not supported by the TFLITE backend"
TIMEOUT_WITHOUT_MIN = "ERR MINBATCHTIMEOUT specified without MINBATCHSIZE"
INPUTS_REFUSED = "ERR INPUTS argument should not be specified for this backend"
TF_INPUTS_MISSING = "ERR INPUTS not specified for TF"
TF_OUTPUTS_MISSING = "ERR OUTPUTS not specified for TF"
BAD_INPUT_COUNT = "ERR Invalid argument for input_count"
BAD_OUTPUT_COUNT = "ERR Invalid argument for output_count"
OLD_TF_NAMES_MISSING = "ERR Insufficient arguments, INPUTS and OUTPUTS not specified"
MODEL_INPUTS_COUNT = "ERR number of model inputs does not match the number of given arguments"
MODEL_OUTPUTS_COUNT = "ERR number of model outputs does not match the number of given arguments"
BLOB_MISSING = "ERR Insufficient arguments, missing model BLOB"
BLOB_EXPECTED = "ERR Invalid argument, expected BLOB"
MODEL_TOO_LARGE = "ERR the model has %d bytes; at most %d are allowed"  # ours, like the rest of this part
DESCRIPTION_TOO_LARGE = "ERR the tag and the names take %d bytes; at most %d are allowed"
MODEL_OVER_MEMORY = "ERR the model has %d bytes; this engine keeps at most %d in memory (model-memory)"
PYTHON_OFF = (
    "ERR PYFUNC models are off; start the engine with --python-models, and without "
    "MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false"
)
PYTHON_ELSEWHERE = "ERR PYFUNC models are on for keys that match %s (python-models); %s doesn't"
UNKNOWN_BACKEND = "ERR the model's backend %s isn't known here; the backends are %s"
NO_STREAM = "ERR a model of backend %s gives whole answers only; PYFUNC models can stream, if they have predict_stream"
STREAM_UNASKED = "ERR the stream was ended, because nothing was asked of it for %d ms (stream-timeout)"
STREAM_MISSING = "ERR this connection has no stream of this key; AI.MODELSTREAM begins one"
MODEL_REPLACED = "ERR the model was replaced again and again while it was read; try again"

# Runs
INPUTS_MISSING = "ERR INPUTS not specified"
OUTPUTS_MISSING = "ERR OUTPUTS not specified"
INPUT_COUNT_ZERO = "ERR Input count must be a positive integer"
OUTPUT_COUNT_ZERO = "ERR Output count must be a positive integer"
INPUT_KEYS_COUNT = "ERR number of input keys to AI.MODELEXECUTE command does not match the number of given arguments"
OUTPUT_KEYS_COUNT = "ERR number of output keys to AI.MODELEXECUTE command does not match the number of given arguments"
INPUTS_MISMATCH = "Number of keys given as INPUTS here does not match model definition"
OUTPUTS_MISMATCH = "Number of keys given as OUTPUTS here does not match model definition"
TIMEOUT_MISSING = "ERR No value provided for TIMEOUT"
BAD_TIMEOUT = "ERR Invalid value for TIMEOUT"
UNEXPECTED = "Invalid argument: %s"

# Scripts
SCRIPT_MISSING = "ERR script key is empty"
SCRIPT_TOO_LARGE = "ERR the script has %d bytes; at most %d are allowed"  # ours, like the next three
SCRIPT_TOO_LONG = "ERR the script has %d lines; at most %d are allowed"
SCRIPT_UNENDED = "ERR the script has a text in quotes without an end in line %d"
SCRIPT_TOO_DEEP = "ERR the script is nested deeper than %d levels in line %d"
SOURCE_MISSING = "ERR Insufficient arguments, missing script SOURCE"
ENTRY_POINTS_MISSING = "ERR Insufficient arguments, missing script entry points"
BAD_ENTRY_POINT_COUNT = "ERR Non numeric entry points number provided to AI.SCRIPTSTORE command"
ENTRY_POINT_ABSENT = "Function %s does not exist in the given script."
ENTRY_POINT_ARGUMENTS = "Wrong number of inputs in function %s. Expected 3 but was %d"
ENTRY_POINT_TYPES = (
    "Wrong inputs type in function %s. Expected signature similar to: "
    "def %s(tensors: List[Tensor], keys: List[str], args: List[str])"
)
FUNCTION_ABSENT = "Function does not exist: %s"
FUNCTION_INPUTS = "Wrong number of inputs provided to function: %s"
FUNCTION_INPUT_TYPE = "Unsupported input type in function definition: %s"
FUNCTION_OUTPUTS = "Function returned unexpected number of outputs - %s"
FUNCTION_NO_TENSOR = "Function returned non-tensor values%s"
SCRIPT_FIRST_SCOPE = "ERR KEYS or INPUTS scope must be provided first for AI.SCRIPTEXECUTE command"
SCRIPT_SCOPE_TWICE = "ERR Already Encountered %s scope in AI.SCRIPTEXECUTE command"
SCRIPT_SCOPE_EMPTY = "ERR Invalid arguments provided to AI.SCRIPTEXECUTE"
SCRIPT_BAD_COUNT = "ERR Invalid argument for %s count in AI.SCRIPTEXECUTE"
SCRIPT_TOO_FEW = "ERR number of %s to AI.SCRIPTEXECUTE command does not match the number of given arguments"
SCRIPT_NO_KEYS = "ERR Missing arguments after KEYS keyword"
SCRIPT_BAD_KEY_COUNT = "ERR Invalid or negative value found in number of KEYS"
SCRIPT_TOO_FEW_KEYS = (
    "ERR Number of pre declared KEYS to be used in the command does not match the number of given arguments"
)
SCRIPT_UNEXPECTED = "ERR Invalid AI.SCRIPTEXECUTE command. Unexpected argument: %s"
SCRIPT_NO_TIMEOUT = "ERR No value provided for TIMEOUT in AI.SCRIPTEXECUTE"
SCRIPT_BEHIND_TIMEOUT = "ERR Encountered problem parsing AI.SCRIPTEXECUTE"
SCRIPTRUN_TWICE = "ERR Already encountered an %s in SCRIPTRUN"
SCRIPTRUN_UNEXPECTED = "ERR Unrecongnized parameter to SCRIPTRUN"
SCRIPTRUN_LIST_OUTSIDE = "ERR Encountered a variable size list of tensors outside of input section"
SCRIPTRUN_LIST_TWICE = "ERR Already encountered a variable size list of tensors"
SCRIPT_REDIS_ERROR = "Redis command returned an error: %s"
NOT_FROM_SCRIPT = "ERR This Redis command is not allowed from script"  # Redis' own words, for its own scripts

# DAGs
DAG_NO_SCOPE = (
    "ERR AI.DAGEXECUTE and AI.DAGEXECUTE_RO commands must contain at least one out of ROUTING, LOAD, PERSIST keywords"
)
DAG_EMPTY = "ERR DAG is empty"
DAG_UNEXPECTED = "ERR Invalid DAG command. Unexpected argument:  %s"
DAG_COUNT_MISSING = "ERR missing arguments after %s keyword in DAG command"
DAG_BAD_COUNT = "ERR invalid or negative value found in number of keys to %s"
DAG_LOAD_COUNT = "ERR number of keys to LOAD into DAG does not match the number of given arguments"
DAG_PERSIST_COUNT = "ERR number of keys to PERSIST after DAG execution does not match the number of given arguments"
DAG_PERSIST_TWICE = "ERR PERSIST keys must be unique"
DAG_PERSIST_UNKNOWN = "ERR PERSIST key cannot be found in DAG"
DAG_SCRIPT_READ_ONLY = "ERR %s command cannot be specified in a read-only DAG"
DAG_PERSIST_READ_ONLY = "ERR PERSIST cannot be specified in a read-only DAG"
DAG_ROUTING_MISSING = "ERR Missing ROUTING value"
DAG_INPUT_UNKNOWN = "ERR INPUT key cannot be found in DAG"
DAG_TIMEOUT_IN_OP = "ERR TIMEOUT not allowed within a DAG command"
DAG_UNSUPPORTED = "Unsupported command within DAG"
DAG_DEPRECATED_OP = "Deprecated %s cannot be used in AI.DAGEXECUTE command"
DAG_NEW_OP = "%s cannot be used in a deprecated AI.DAGRUN command"

# Statistics and configuration
INFO_MISSING = "ERR cannot find run info for key"
CONFIG_UNKNOWN = "ERR unsupported subcommand"
CONFIG_PATH_MISSING = "ERR BACKENDSPATH: missing path argument"
CONFIG_CHUNK_MISSING = "ERR MODEL_CHUNK_SIZE: missing chunk size"
CONFIG_BAD_CHUNK = "ERR MODEL_CHUNK_SIZE: invalid chunk size"
CONFIG_LOAD_FAILED = "ERR error loading backend"
NOT_COPYABLE = "ERR not supported for this module key"

# RESTORE
BUSY_KEY = "BUSYKEY Target key name already exists."
BAD_DUMP = "ERR Bad data format: %s"

# The engine's own
PROTECTED = (
    "DENIED protected mode: Redis asks nobody for a password, so only clients on the engine's own machine are let in. "
    "Connect from there, give Redis a password (CONFIG SET requirepass, or ACL SETUSER default) and log in with it, or "
    "let everybody in who reaches the port: start the engine with --protected-mode no"
)
ENGINE_FAILED = "ERR the engine failed on this command; its log says why"
REDIS_SILENT = (
    "ERR Redis hasn't answered anything for %d ms (see --upstream-timeout); it may still carry out what it was sent"
)
VALUE_TOO_LARGE = "ERR a field of the key has more than %d bytes, so no model or script is read from it"

TENSORS_TOO_LARGE = "ERR the tensors of this command take %d bytes or more; at most %d are allowed (see --tensor-limit)"
REPLY_TOO_LARGE = "ERR the reply to this command takes %d bytes or more; at most %d are allowed (see --reply-limit)"
TENSOR_TOO_LARGE = "ERR a tensor takes %d bytes; at most %d can be stored"

# The engine's own explanations, appended to errors of Redis that RedisAI's users wouldn't expect
NO_LUA = (
    " AI commands can't be called from Lua: scripts run inside Redis, but AI commands are answered by the engine in"
    " front of it. Send them outside the script."
)
NO_RIGHTS = (
    " (AI commands have no permissions of their own in front of a Redis without RedisAI: to allow one, allow the plain"
    " commands that it is made of%s)"
)

# Redis' errors for the commands of any module
NO_KEYS = "ERR The command has no key arguments"
KEYS_MISSING = "ERR Invalid arguments specified for command"
