// Shows /openapi.json as a page, without anything from other hosts.
const main = document.getElementById("operations");

function add(parent, tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  parent.append(made);
  return made;
}

function nameOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(nameOf).join(" or ");
  if (schema.type === "array") return `list of ${nameOf(schema.items)}`;
  if (schema.type === "object" && schema.additionalProperties) return `map to ${nameOf(schema.additionalProperties) || "any"}`;
  return schema.type ?? "any";
}

function addFields(parent, title, fields) {
  if (!fields.length) return;
  add(parent, "h4", title);
  const list = add(parent, "ul", "");
  for (const [name, type, note] of fields) {
    const item = add(list, "li", "");
    add(item, "code", name);
    item.append(`: ${type}${note ? ". " + note : ""}`);
  }
}

const description = await (await fetch("/openapi.json")).json();
main.replaceChildren();
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const part = add(main, "section", "");
    add(part, "h2", `${method.toUpperCase()} ${path}`);
    add(part, "p", operation.description ?? operation.summary);
    addFields(part, "Parameters", (operation.parameters ?? []).map((each) => [each.name, nameOf(each.schema), each.description]));
    const body = operation.requestBody?.content ?? {};
    addFields(part, "Body", Object.entries(body).map(([kind, each]) => [kind, nameOf(each.schema), ""]));
    const answer = operation.responses["200"]?.content?.["application/json"]?.schema;
    if (answer && nameOf(answer) !== "any") addFields(part, "Answer", [["application/json", nameOf(answer), ""]]);
  }
}
add(main, "h2", "Bodies and answers");
for (const [name, schema] of Object.entries(description.components?.schemas ?? {})) {
  if (!schema.properties || name.includes("ValidationError")) continue;
  const part = add(main, "section", "");
  add(part, "h3", name);
  add(part, "p", schema.description ?? "");
  addFields(part, "Fields", Object.entries(schema.properties).map(([field, each]) => [field, nameOf(each), each.description]));
}
