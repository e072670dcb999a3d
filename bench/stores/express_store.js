// An Express application on connect-dynamodb, set up as in its documentation. It reads requests from
// standard input and writes responses, as serve.py does.
"use strict";

const http = require("node:http");
const readline = require("node:readline");
const express = require("express");
const session = require("express-session");
const DynamoDBStore = require("connect-dynamodb")(session);

const sessions = session({
  store: new DynamoDBStore({ table: process.argv[2] }),
  secret: "a secret of the application",
  resave: false,
  saveUninitialized: false,
  cookie: { maxAge: 1800 * 1000 },
});

const app = express();
app.get("/plain", (request, response) => response.send("ada"));
app.get("/login", sessions, (request, response) => {
  request.session.user = "ada";
  request.session.data = { theme: "dark", count: 0 };
  response.send("ada");
});
app.get("/load", sessions, (request, response) => response.send(request.session.user ?? ""));
app.get("/change", sessions, (request, response) => {
  if (request.session.user) request.session.data.count += 1;
  response.send(request.session.user ?? "");
});
app.get("/logout", sessions, (request, response, next) =>
  request.session.destroy((error) => (error ? next(error) : response.send(""))),
);

const agent = new http.Agent({ keepAlive: true });

function request(port, name, cookie) {
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path: `/${name}`, agent, headers: { cookie } };
    http
      .get(options, (response) => {
        let body = "";
        response.setEncoding("utf8");
        response.on("data", (chunk) => (body += chunk));
        response.on("end", () => {
          if (response.statusCode !== 200) return reject(new Error(`/${name}: ${body}`));
          const [set] = response.headers["set-cookie"] ?? [cookie];
          return resolve({ body, cookie: set.split(";")[0] });
        });
      })
      .on("error", reject);
  });
}

const server = app.listen(0, "127.0.0.1", async () => {
  const { port } = server.address();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { name, argument, times } = JSON.parse(line);
    let answer = null;
    let error = "";
    const begin = process.cpuUsage();
    try {
      for (let i = 0; i < times; i++) answer = await request(port, name, argument);
    } catch (failure) {
      error = String(failure);
    }
    const { user, system } = process.cpuUsage(begin);
    console.log(JSON.stringify({ answer, cpu: (user + system) / 1e6, error }));
  }
  process.exit();
});
