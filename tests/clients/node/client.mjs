// Asks a server through the `openai` package for JavaScript and prints what came as JSON:
// for each part its value, or its error. OPENAI_BASE_URL and OPENAI_API_KEY say where and as whom.
import OpenAI from "openai";

const [model] = process.argv.slice(2);
const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: "How is the weather in Paris, France?" }];
const settings = { model, messages, temperature: 0, max_tokens: 100 };
const brief = { ...settings, max_tokens: 12 };
const parameters = {
  type: "object",
  properties: { city: { enum: ["Paris", "London"] }, days: { type: "integer", minimum: 1, maximum: 7 } },
  required: ["city", "days"],
  additionalProperties: false,
};
const getWeather = {
  type: "function",
  function: { name: "get_weather", description: "Look the weather up", strict: true, parameters },
};
const named = { type: "function", function: { name: "get_weather" } };

async function models() {
  const listed = [];
  for await (const card of client.models.list()) listed.push(card.id);
  return { listed, found: (await client.models.retrieve(model)).id };
}

async function chat() {
  const { data, response } = await client.chat.completions.create(brief).withResponse();
  const [choice] = data.choices;
  return {
    content: choice.message.content,
    finish: choice.finish_reason,
    usage: data.usage,
    id: data.id,
    requestId: data._request_id,
    header: response.headers.get("x-request-id"),
  };
}

async function stream() {
  let content = "";
  let finish = null;
  let usage = null;
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create({ ...brief, ...options })) {
    content += chunk.choices[0]?.delta.content ?? "";
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  return { content, finish, usage };
}

async function events() {
  const texts = [];
  const runner = client.chat.completions.stream(brief);
  runner.on("content", (delta) => texts.push(delta));
  return { texts, final: await runner.finalContent() };
}

async function completion() {
  const request = { model, prompt: "One, two, three,", temperature: 0, max_tokens: 6 };
  let streamed = "";
  for await (const chunk of await client.completions.create({ ...request, stream: true })) {
    streamed += chunk.choices[0].text;
  }
  return { streamed, whole: (await client.completions.create(request)).choices[0].text };
}

async function parse() {
  const json_schema = { name: "report", strict: true, schema: parameters };
  const response_format = { type: "json_schema", json_schema };
  const answer = await client.chat.completions.parse({ ...settings, response_format });
  return answer.choices[0].message.parsed;
}

async function call() {
  const pieces = [];
  const forced = { tools: [getWeather], tool_choice: named };
  const runner = client.chat.completions.stream({ ...settings, ...forced });
  runner.on("tool_calls.function.arguments.delta", (event) => pieces.push(event.arguments_delta));
  const final = await runner.finalChatCompletion();
  const [made] = final.choices[0].message.tool_calls;
  return { pieces, name: made.function.name, text: made.function.arguments, arguments: made.function.parsed_arguments };
}

// A server that stood still joins pieces: up to ten calls, until one comes in more than two.
async function calls() {
  const made = [];
  do made.push(await call());
  while (made.at(-1).pieces.length <= 2 && made.length < 10);
  return made;
}

async function tools() {
  const asked = [];
  const run = (given) => {
    asked.push(given);
    return `${given.city}: sunny, 23 degrees`;
  };
  const tool = { type: "function", function: { ...getWeather.function, function: run, parse: JSON.parse } };
  const runner = client.chat.completions.runTools({ ...settings, tools: [tool], tool_choice: named });
  await runner.done();
  const told = { ...settings, messages: runner.messages, max_tokens: 40 };
  const answer = await client.chat.completions.create(told);
  return { asked, roles: runner.messages.map((one) => one.role), content: answer.choices[0].message.content };
}

async function abort() {
  const controller = new AbortController();
  const endless = { ...settings, max_tokens: 8000, ignore_eos: true, stream: true };
  const chunks = await client.chat.completions.create(endless, { signal: controller.signal });
  let count = 0;
  for await (const chunk of chunks) {
    // What came in the same read as the third piece is still given out after the abort.
    if (controller.signal.aborted || !chunk.choices[0]?.delta.content) continue;
    if (++count === 3) controller.abort();
  }
  return { count };
}

async function refusals() {
  const stranger = client.withOptions({ apiKey: "sk-wrong" });
  const attempts = [
    () => client.chat.completions.create({ ...brief, temperature: 9 }),
    () => client.chat.completions.create({ ...brief, top_p: 9, stream: true }),
    () => client.chat.completions.create({ ...brief, model: "gpt-17" }),
    () => stranger.models.list(),
  ];
  const seen = [];
  for (const attempt of attempts) {
    try {
      await attempt();
      seen.push(null);
    } catch (error) {
      seen.push([error.constructor.name, error.status, error.param]);
    }
  }
  return seen;
}

const parts = { models, chat, stream, events, completion, parse, calls, tools, abort, refusals };
const results = {};
for (const [name, run] of Object.entries(parts)) {
  try {
    results[name] = { value: await run() };
  } catch (error) {
    results[name] = { error: String(error.stack ?? error) };
  }
}
console.log(JSON.stringify(results));
