// Lists the endpoints from the OpenAPI file.

import { get } from "./api.js";
import { find, make, table } from "./dom.js";

function resolve(schema, all) {
  const name = schema?.$ref?.split("/").pop();
  return name ? all[name] : schema ?? {};
}

function fields(operation, all) {
  const query = (operation.parameters ?? []).map((one) => `${one.name} (${one.in})`);
  const body = Object.values(operation.requestBody?.content ?? {})
    .flatMap((content) => Object.keys(resolve(content.schema, all).properties ?? {}));
  return [...query, ...body].join(", ");
}

const { paths, components } = await get("/api/openapi.json");
const rows = Object.entries(paths).flatMap(([path, operations]) =>
  Object.entries(operations).map(([method, operation]) =>
    [method.toUpperCase(), make("code", {}, path), fields(operation, components.schemas), operation.description ?? ""]));
find("docs").replaceChildren(table([["Method"], ["Path"], ["Fields"], ["What it does"]], rows));
